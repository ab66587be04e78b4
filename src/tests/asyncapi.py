"""Whether the examples of an AsyncAPI document are what the document says of them; by a validator that is not ours."""

import json
import sys

import jsonschema_rs

with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
wrong = seen = 0
for name, message in document["components"]["messages"].items():
    schema = message["payload"] | {"components": {"schemas": document["components"]["schemas"]}}
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    for example in message["examples"]:
        seen += 1
        for error in validator.iter_errors(example["payload"]):
            wrong += 1
            print(f"{name}: {error}")
print(f"{seen} examples, {wrong} errors")
sys.exit(1 if wrong or not seen else 0)
