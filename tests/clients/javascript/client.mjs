// Drives an endpoint with the AWS SDK for JavaScript (v3) and says what it saw, as one line of JSON.
// Usage: node client.mjs http://127.0.0.1:8000
import {
  BatchExecuteStatementCommand, BatchGetItemCommand, BatchWriteItemCommand, CreateTableCommand, DeleteTableCommand,
  DescribeTableCommand, DynamoDBClient, ExecuteStatementCommand, GetItemCommand, ListTablesCommand, PutItemCommand, QueryCommand,
  UpdateItemCommand, UpdateTimeToLiveCommand, paginateScan, waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";

const client = new DynamoDBClient({
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "evenkeel", secretAccessKey: "evenkeel" },
});
const TableName = `js-${Date.now()}`;
const seen = {};

await client.send(new CreateTableCommand({
  TableName,
  BillingMode: "PAY_PER_REQUEST",
  AttributeDefinitions: [{ AttributeName: "pk", AttributeType: "S" }, { AttributeName: "sk", AttributeType: "N" }],
  KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }, { AttributeName: "sk", KeyType: "RANGE" }],
  StreamSpecification: { StreamEnabled: true, StreamViewType: "KEYS_ONLY" },
}));
await waitUntilTableExists({ client, maxWaitTime: 180, minDelay: 1, maxDelay: 2 }, { TableName });
seen.listed = (await client.send(new ListTablesCommand({}))).TableNames.includes(TableName);

await client.send(new PutItemCommand({
  TableName,
  Item: { pk: { S: "a" }, sk: { N: "1" }, bytes: { B: new Uint8Array([0, 255]) }, tags: { SS: ["x", "y"] } },
}));
const got = await client.send(new GetItemCommand({ TableName, Key: { pk: { S: "a" }, sk: { N: "1" } }, ConsistentRead: true }));
seen.bytes = Array.from(got.Item.bytes.B);
seen.tags = got.Item.tags.SS;

const updated = await client.send(new UpdateItemCommand({
  TableName, Key: { pk: { S: "a" }, sk: { N: "1" } },
  UpdateExpression: "ADD visits :one", ExpressionAttributeValues: { ":one": { N: "1" } }, ReturnValues: "UPDATED_NEW",
}));
seen.visits = updated.Attributes.visits.N;

try {
  await client.send(new PutItemCommand({
    TableName, Item: { pk: { S: "a" }, sk: { N: "1" } }, ConditionExpression: "attribute_not_exists(pk)",
  }));
} catch (error) {
  seen.conditionError = error.name;
}

await client.send(new BatchWriteItemCommand({
  RequestItems: {
    [TableName]: Array.from({ length: 25 }, (_, i) => ({
      PutRequest: { Item: { pk: { S: "batch" }, sk: { N: String(i) }, v: { S: `é${i}` } } },
    })),
  },
}));
const batch = await client.send(new BatchGetItemCommand({
  RequestItems: { [TableName]: { ConsistentRead: true, Keys: [{ pk: { S: "batch" }, sk: { N: "3" } }, { pk: { S: "batch" }, sk: { N: "99" } }] } },
}));
seen.batchGot = batch.Responses[TableName].length;
const page = await client.send(new QueryCommand({
  TableName, ConsistentRead: true, KeyConditionExpression: "pk = :p AND sk BETWEEN :a AND :b", ScanIndexForward: false,
  ExpressionAttributeValues: { ":p": { S: "batch" }, ":a": { N: "2" }, ":b": { N: "11" } },
}));
seen.query = page.Items.map((item) => Number(item.sk.N));
seen.scanned = 0;
for await (const part of paginateScan({ client, pageSize: 7 }, { TableName, ConsistentRead: true })) seen.scanned += part.Count;

// Statements, to the last page.
seen.statements = [];
for (let NextToken; ;) {
  const part = await client.send(new ExecuteStatementCommand({
    Statement: `SELECT v FROM "${TableName}" WHERE pk = ? AND sk > ?`, Parameters: [{ S: "batch" }, { N: "20" }],
    ConsistentRead: true, Limit: 3, NextToken,
  }));
  seen.statements.push(part.Items.map((item) => item.v.S));
  NextToken = part.NextToken;
  if (!NextToken) break;
}
const several = await client.send(new BatchExecuteStatementCommand({
  Statements: [
    { Statement: `DELETE FROM "${TableName}" WHERE pk = 'batch' AND sk = 3` },
    { Statement: `UPDATE "${TableName}" SET v = 'x' WHERE pk = 'batch'` },
  ],
}));
seen.statementErrors = several.Responses.map((response) => response.Error?.Code ?? null);
const { Table } = await client.send(new DescribeTableCommand({ TableName }));
seen.stream = [Table.StreamSpecification.StreamViewType, Table.LatestStreamArn.endsWith(Table.LatestStreamLabel)];
const expires = { AttributeName: "expires", Enabled: true };
seen.timeToLive = (await client.send(new UpdateTimeToLiveCommand({ TableName, TimeToLiveSpecification: expires })))
  .TimeToLiveSpecification;
await waitUntilTableExists({ client, maxWaitTime: 180, minDelay: 1, maxDelay: 2 }, { TableName });
await client.send(new DeleteTableCommand({ TableName }));
console.log(JSON.stringify(seen));
