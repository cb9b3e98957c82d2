# Where the package `lightcluster` is, which all rules need: beside them. If Snakemake reads single files
# of a git repository, as of a module, they are written to a folder first, as of the same commit.
import sys
import tarfile
import tempfile
from pathlib import Path

from git import Repo
from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import HostingProviderFile, LocalGitFile, LocalSourceFile

COPIES = Path(
    ".snakemake", "lightcluster", "source"
)  # which the nodes of a cluster see, too


def repository_of(place):
    """Return the git repository that holds a place of Snakemake's."""
    if isinstance(place, HostingProviderFile):
        return place.hosted_repo.repo
    if isinstance(place, LocalGitFile):
        return Repo(place.repo_path)
    raise WorkflowError(
        f"{place}: the rules need the rest of the repository; name it by github(...), gitlab(...) "
        "or git+file:, or name the workflow/Snakefile of a checkout"
    )


def copy_of(repository, commit):
    """Return a folder with the package, and what it needs, as they are in a commit."""
    folder = (COPIES / commit).absolute()
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        archive, tree = Path(temporary, "archive.tar"), Path(temporary, "tree")
        with archive.open("wb") as file:
            repository.git.archive(
                commit, "workflow/lightcluster", "resources", output_stream=file
            )
        with tarfile.open(archive) as file:
            file.extractall(tree, filter="data")
        try:
            tree.rename(folder)
        except OSError:
            if not folder.exists():  # if it does, another process was faster
                raise
    return folder


def folder_of_package(place):
    """Return the folder of the package, for rules at a place of Snakemake's."""
    if isinstance(place, LocalSourceFile):
        return Path(place).resolve().parent
    repository = repository_of(place)
    commit = repository.git.rev_parse("--verify", f"{place.ref}^{{commit}}")
    return copy_of(repository, commit) / "workflow"


WORKFLOW = folder_of_package(workflow.current_basedir)
sys.path.insert(0, str(WORKFLOW))
