// Reads a table's stream with the AWS SDK for JavaScript (v3), shard by shard to its end, and says what it saw, as one line of JSON.
// Usage: node streams.mjs http://127.0.0.1:8000
import {
  CreateTableCommand, DeleteItemCommand, DeleteTableCommand, DynamoDBClient, PutItemCommand, UpdateItemCommand, UpdateTableCommand,
  waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";
import {
  DescribeStreamCommand, DynamoDBStreamsClient, GetRecordsCommand, GetShardIteratorCommand, ListStreamsCommand,
} from "@aws-sdk/client-dynamodb-streams";

const options = {
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "evenkeel", secretAccessKey: "evenkeel" },
};
const client = new DynamoDBClient(options);
const streams = new DynamoDBStreamsClient(options);
const TableName = `js-streams-${Date.now()}`;
const settled = () => waitUntilTableExists({ client, maxWaitTime: 180, minDelay: 1, maxDelay: 2 }, { TableName });
const failure = async (command) => {
  try { await streams.send(command); return "none"; } catch (error) { return error.name; }
};
const seen = {};

await client.send(new CreateTableCommand({
  TableName,
  BillingMode: "PROVISIONED",
  ProvisionedThroughput: { ReadCapacityUnits: 100, WriteCapacityUnits: 100 },
  AttributeDefinitions: [{ AttributeName: "pk", AttributeType: "S" }],
  KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }],
  StreamSpecification: { StreamEnabled: true, StreamViewType: "NEW_AND_OLD_IMAGES" },
}));
await settled();
const Key = { pk: { S: "a" } };
await client.send(new PutItemCommand({ TableName, Item: { ...Key, n: { N: "1" }, bytes: { B: new Uint8Array([0, 255]) } } }));
await client.send(new UpdateItemCommand({
  TableName, Key, UpdateExpression: "SET n = n + :one REMOVE bytes", ExpressionAttributeValues: { ":one": { N: "1" } },
}));
await client.send(new DeleteItemCommand({ TableName, Key }));
// A stream that is closed has shards with an end: all of their records can be read.
await client.send(new UpdateTableCommand({ TableName, StreamSpecification: { StreamEnabled: false } }));
await settled();

const { Streams } = await streams.send(new ListStreamsCommand({ TableName }));
const [{ StreamArn }] = Streams;
const describe = async () => (await streams.send(new DescribeStreamCommand({ StreamArn }))).StreamDescription;
const isClosed = ({ StreamStatus, Shards }) =>
  StreamStatus === "DISABLED" && Shards.every((shard) => shard.SequenceNumberRange.EndingSequenceNumber);
// Routers learn of the change a moment later.
const end = Date.now() + 120_000;
let StreamDescription;
while (!isClosed(StreamDescription = await describe()) && Date.now() < end) await new Promise((done) => setTimeout(done, 100));
seen.stream = [Streams.length, StreamDescription.StreamStatus, StreamDescription.StreamViewType, StreamDescription.TableName === TableName];
const records = [];
const read = async (shard, start, Limit) => {
  const found = [];
  let { ShardIterator } = await streams.send(new GetShardIteratorCommand({ StreamArn, ShardId: shard.ShardId, ...start }));
  while (ShardIterator) {
    const page = await streams.send(new GetRecordsCommand({ ShardIterator, Limit }));
    found.push(...page.Records);
    ShardIterator = page.NextShardIterator;
  }
  return found;
};
// Parents come before their children.
for (const shard of StreamDescription.Shards) {
  const found = await read(shard, { ShardIteratorType: "TRIM_HORIZON" }, 2);
  records.push(...found);
  if (found.length < 2) continue;
  const again = await read(shard, { ShardIteratorType: "AFTER_SEQUENCE_NUMBER", SequenceNumber: found[0].dynamodb.SequenceNumber });
  seen.after = again.map((record) => record.eventName);
}
seen.records = records.map(({ eventName, dynamodb }) => [
  eventName, dynamodb.Keys.pk.S, dynamodb.OldImage?.n.N ?? null, dynamodb.NewImage?.n.N ?? null,
]);
seen.bytes = records.length > 0 ? Array.from(records[0].dynamodb.NewImage.bytes.B) : [];
seen.dated = records.every((record) => record.dynamodb.ApproximateCreationDateTime instanceof Date);
const ShardId = `shardId-${"0".repeat(20)}-${"f".repeat(8)}`;
seen.refused = [
  await failure(new GetShardIteratorCommand({ StreamArn, ShardId, ShardIteratorType: "LATEST" })),
  await failure(new DescribeStreamCommand({ StreamArn: `${StreamArn}0` })),
];
await client.send(new DeleteTableCommand({ TableName }));
console.log(JSON.stringify(seen));
