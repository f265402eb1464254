"""Step 1, what the LLM reads and the form its answer must have: templates, rendering, the check."""

from rlrf4rec.prompts.rendering import PromptWriter
from rlrf4rec.prompts.structure import StructureReport, check_structure
from rlrf4rec.prompts.templates import Template, load_template

__all__ = ["PromptWriter", "StructureReport", "Template", "check_structure", "load_template"]
