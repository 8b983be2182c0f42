"""Prints template.yaml as CloudFormation gets to see it: loops expanded, serverless resources translated.

    .venv/sam/bin/python infra/local/expand.py template.yaml [Parameter=value ...] > target/template.json

cfn-lint and the tests on the template read this. On the template as written, a rule about AWS::Lambda::Function
passes because it finds nothing to look at.
"""

import json
import logging
import os
import sys

# The translator asks botocore for a region.
REGION = os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"

from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

# Stands in for what `sam deploy` uploads.
CODE = "s3://bucket/code.zip"


class NoManagedPolicies:
    """The template names no managed policies; the translator asks for a loader all the same."""

    def load(self):
        return {}


def expand(text, overrides):
    template = yaml_parse(text)
    values = {
        "AWS::Region": REGION,
        "AWS::Partition": "aws",
        "AWS::URLSuffix": "amazonaws.com",
        "AWS::AccountId": "111122223333",
        "AWS::StackName": "datasync",
    }
    for name, parameter in template["Parameters"].items():
        if "Default" in parameter:
            values[name] = str(parameter["Default"])
    values.update(overrides)
    expanded = expand_language_extensions(template, values, enabled=True).expanded_template
    expanded["Transform"] = "AWS::Serverless-2016-10-31"
    expanded["Globals"]["Function"]["CodeUri"] = CODE
    for resource in expanded["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = CODE
    return transform(expanded, values, NoManagedPolicies())


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with open(sys.argv[1], encoding="utf-8") as file:
        source = file.read()
    print(json.dumps(expand(source, dict(pair.split("=", 1) for pair in sys.argv[2:])), indent=2))
