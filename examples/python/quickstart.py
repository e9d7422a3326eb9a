"""Publishes messages to a topic, consumes them from the queue that a route puts them in, acks."""

import argparse
import asyncio
import sys
import uuid

from waypost_client import PORT, Message, connect


async def run(args: argparse.Namespace) -> int:
    async with connect(
        args.host,
        args.port,
        ca=args.ca,
        cert=args.cert,
        key=args.key,
        token=args.token,
        server_name=args.server_name,
    ) as client:
        run_id = uuid.uuid4().hex
        sent = {f"{run_id}-{n}".encode() for n in range(args.count)}
        messages = [
            Message(args.topic, f"message {n}".encode(), message_id=f"{run_id}-{n}".encode())
            for n in range(args.count)
        ]
        publisher = await client.publisher("quickstart")
        confirmed = await publisher.publish(messages)
        await publisher.close()
        for answer in confirmed:
            if answer.exception:
                print(f"{answer.exception}: {answer.text}", file=sys.stderr)
                return 1
        print(f"published {len(confirmed)}, confirmed: {confirmed[0].level}")

        consumer = await client.consumer(args.queue, args.group)
        missing = set(sent)
        while missing:
            batch = await consumer.next()
            missing -= {delivery.message.message_id for delivery in batch}
            consumer.ack([delivery.offset for delivery in batch])
        await consumer.close()
        print(f"consumed and acked {len(sent)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--server-name", help="if the certificate names another than --host")
    parser.add_argument("--ca", required=True, help="PEM file of the CA that vouches for the node")
    parser.add_argument("--cert", help="PEM file of the client's certificate")
    parser.add_argument("--key", help="PEM file of its private key")
    parser.add_argument("--token", default="", help="instead of a certificate")
    parser.add_argument("--topic", default="quickstart/messages")
    parser.add_argument("--queue", default="quickstart")
    parser.add_argument("--group", default="python")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for all of it")
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count must be at least 1")
    return asyncio.run(asyncio.wait_for(run(args), args.timeout))


if __name__ == "__main__":
    sys.exit(main())
