include: "workflow/Snakefile"


workflow.default_target = "all"  # an include alone leaves no default target
