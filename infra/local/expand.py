"""Prints template.yaml as CloudFormation gets to see it: loops expanded, serverless resources translated.

    .venv/sam/bin/python infra/local/expand.py template.yaml > target/template.json

cfn-lint and the tests on the template read this. On the template as written, a rule about AWS::Lambda::Function
passes because it finds nothing to look at. The loops are expanded here, not by the SAM CLI, because that also decides
each condition: what stands in the other branch would be checked by nobody.
"""

import json
import logging
import os
import sys

# The translator asks botocore for a region.
os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

LOOP = "Fn::ForEach::"
# Stands in for what `sam deploy` uploads.
CODE = "s3://bucket/code.zip"


class NoManagedPolicies:
    """The template names no managed policies; the translator asks for a loader all the same."""

    def load(self):
        return {}


def replaced(node, name, value):
    """The fragment for one item: in keys, in the text of Fn::Sub and for a Ref to the loop's name, as AWS does."""
    if isinstance(node, list):
        return [replaced(item, name, value) for item in node]
    if not isinstance(node, dict):
        return node
    if node == {"Ref": name}:
        return value
    if isinstance(node.get("Fn::Sub"), str):
        text = node["Fn::Sub"].replace("${" + name + "}", value)
        return {"Fn::Sub": text} if "${" in text else text
    return {key.replace("${" + name + "}", value): replaced(item, name, value) for key, item in node.items()}


def unrolled(section):
    """A section of the template without its loops."""
    plain = {}
    for key, body in section.items():
        if not key.startswith(LOOP):
            plain[key] = body
            continue
        name, items, fragment = body
        for item in items:
            plain.update(unrolled(replaced(fragment, name, item)))
    return plain


def expand(text):
    template = yaml_parse(text)
    for section in ("Resources", "Outputs"):
        template[section] = unrolled(template[section])
    template["Transform"] = "AWS::Serverless-2016-10-31"
    template["Globals"]["Function"]["CodeUri"] = CODE
    for resource in template["Resources"].values():
        for place in ("CodeUri", "ContentUri"):
            if place in resource.get("Properties", {}):
                resource["Properties"][place] = CODE
    defaults = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
    return transform(template, defaults, NoManagedPolicies())


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with open(sys.argv[1], encoding="utf-8") as file:
        print(json.dumps(expand(file.read()), indent=2))
