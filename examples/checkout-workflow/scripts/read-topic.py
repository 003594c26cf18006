#!/usr/bin/env python3
"""Prints the events on a topic, up to its current end, with a plain Kafka client.

    python3 -m venv venv && venv/bin/pip install confluent-kafka
    venv/bin/python scripts/read-topic.py localhost:9092 checkout-events

An event is a CloudEvent in Kafka's binary mode: the attributes are headers, the data is the payload.
Each line has the type, the stream, the version in the stream, the correlation id and the payload.
"""

import json
import signal
import sys
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition


def main(brokers, topic="checkout-events"):
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": f"read-topic-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        # Skips the messages of aborted transactions.
        "isolation.level": "read_committed",
    })
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    if not partitions:
        sys.exit(f"there is no topic {topic}")
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    unfinished, events, versions = set(partitions), 0, {}
    while unfinished:
        message = consumer.poll(10)
        if message is None:
            sys.exit("the broker does not answer")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
            unfinished.discard(message.partition())
            continue
        headers = {name: value.decode() for name, value in message.headers()}
        stream, version = headers["ce_subject"], int(headers["ce_streamversion"])
        if stream != message.key().decode():
            sys.exit(f"{stream} has the key {message.key()}")
        if version > versions.get(stream, 0) + 1:
            sys.exit(f"{stream}: {version} comes after {versions.get(stream, 0)}")
        versions[stream] = max(version, versions.get(stream, 0))
        payload = message.value().decode("utf-8", "replace")
        if headers["content-type"] == "application/json":
            payload = json.dumps(json.loads(payload))
        print(headers["ce_type"], stream, version, headers["ce_correlationid"], payload)
        events += 1
    consumer.close()
    print(f"{events} events of {len(versions)} streams, each in order", file=sys.stderr)


if __name__ == "__main__":
    # End quietly when the pipe is closed, as by `| head`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: read-topic.py BROKERS [TOPIC]")
    main(*sys.argv[1:])
