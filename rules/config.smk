"""The config: config.yaml, a preset over it, over both what the command line names; checked before any job."""

from snakemake.exceptions import WorkflowError

from pipeline.errors import UserError
from pipeline.plan.config import check_config, config_files
from pipeline.plan.experiment import Experiment

if set("{}") & set(str(workflow.basedir)):
    raise WorkflowError(
        f"{workflow.basedir}: Snakemake takes braces in a path for wildcards: "
        "rename the folder, or move the checkout"
    )

try:  # here `config` is what the command line says
    CONFIG_FILE, PRESET_FILE = config_files(
        workflow.basedir, config.get("preset"), workflow.configfiles
    )
except UserError as error:
    raise WorkflowError(str(error)) from None


configfile: CONFIG_FILE
# A preset lies over config.yaml and changes ranges only; --config and --configfile lie over both.
configfile: PRESET_FILE


try:
    config = check_config(config, f"{workflow.basedir}/rules/config.schema.yaml")
    EXPERIMENT = Experiment(config)
except UserError as error:
    raise WorkflowError(str(error)) from None
