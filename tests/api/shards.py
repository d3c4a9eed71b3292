"""A reader of streams as the Kinesis Client Library reads: parents before children, each shard to its end. Owns no assertions."""


def described(streams, arn, **options):
    """The stream's description with all of its shards."""
    description = streams.describe_stream(StreamArn=arn, **options)["StreamDescription"]
    page = description
    while "LastEvaluatedShardId" in page:
        page = streams.describe_stream(StreamArn=arn, ExclusiveStartShardId=page["LastEvaluatedShardId"], **options)
        page = page["StreamDescription"]
        description["Shards"] += page["Shards"]
    return description


def iterator(streams, arn, shard, kind="TRIM_HORIZON", **options):
    answer = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType=kind, **options)
    return answer["ShardIterator"]


class Reader:
    """Remembers what it read: `records` in the order of reading, `finished` shards."""

    def __init__(self, streams, arn, limit=1000):
        self.streams, self.arn, self.limit = streams, arn, limit
        self.iterators, self.finished, self.records, self.checkpoints = {}, [], [], {}

    def round(self):
        """Reads on in every shard whose parent is finished; says whether there was anything."""
        shards = described(self.streams, self.arn)["Shards"]
        known = {shard["ShardId"] for shard in shards}
        before = len(self.records)
        for shard in shards:
            name, parent = shard["ShardId"], shard.get("ParentShardId")
            if name in self.finished or (parent in known and parent not in self.finished):
                continue
            at = self.iterators.get(name) or iterator(self.streams, self.arn, name)
            answer = self.streams.get_records(ShardIterator=at, Limit=self.limit)
            self.records += answer["Records"]
            if answer["Records"]:
                self.checkpoints[name] = answer["Records"][-1]["dynamodb"]["SequenceNumber"]
            self.iterators[name] = answer.get("NextShardIterator")
            if self.iterators[name] is None:
                self.finished.append(name)
        return len(self.records) > before

    def restart(self):
        """Goes on as another process would that knows of finished shards and of the last record read in each other one (a checkpoint)."""
        self.iterators = {
            name: iterator(self.streams, self.arn, name, "AFTER_SEQUENCE_NUMBER", SequenceNumber=number)
            for name, number in self.checkpoints.items()
            if name not in self.finished
        }

    def keys(self):
        return [record["dynamodb"]["Keys"]["pk"]["S"] for record in self.records]
