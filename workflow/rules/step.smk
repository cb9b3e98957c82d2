# What the rules of all steps have in common: each is used from here, with inputs, outputs and
# resources of its own. What is below follows from the declaration of the step.


wildcard_constraints:
    **config["shared"],
    run=config["runs"],
    shard=r"\d+",
    seed=r"\d+",
    weights=r"[^/]+",


for step in config["steps"]:
    if not workflow.modifier.avail_rulename(step.name):
        continue  # this file is read for each rule that is used

    rule:
        name:
            step.name
        log:
            step.log,
        benchmark:
            step.benchmark
        wildcard_constraints:
            run=step.runs,
        conda:
            f"../../envs/{step.environment}"
        threads: 1
        params:
            settings=step.settings,
            shards=step.shards,
            options="",
            command=step.command,
        shell:
            "python -m lightcluster.step {params.command} {params.options} > {log} 2>&1"
