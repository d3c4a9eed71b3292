// Drives an endpoint with DynamoDB-Toolbox, two entities of one table with indexes, and says what it saw, as one line of JSON.
// Usage: node toolbox.mjs http://127.0.0.1:8000
import { CreateTableCommand, DeleteTableCommand, DynamoDBClient, waitUntilTableExists } from "@aws-sdk/client-dynamodb";
import { DynamoDBDocumentClient } from "@aws-sdk/lib-dynamodb";
import {
  $add, $append, $delete, $get, $remove, BatchGetCommand, BatchGetRequest, BatchPutRequest, BatchWriteCommand, ConditionCheck,
  DeleteItemCommand, DeleteTransaction, Entity, GetItemCommand, GetTransaction, PutItemCommand, PutTransaction, QueryCommand, ScanCommand,
  Table, UpdateItemCommand, UpdateTransaction, executeBatchGet, executeBatchWrite, executeTransactGet, executeTransactWrite, item, list,
  map, number, set, string,
} from "dynamodb-toolbox";

const client = new DynamoDBClient({
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "evenkeel", secretAccessKey: "evenkeel" },
});
const name = `toolbox-${Date.now()}`;
const key = (partition, sort) => [
  { AttributeName: partition, KeyType: "HASH" },
  { AttributeName: sort, KeyType: "RANGE" },
];
await client.send(new CreateTableCommand({
  TableName: name,
  BillingMode: "PAY_PER_REQUEST",
  AttributeDefinitions: [["pk", "S"], ["sk", "S"], ["kind", "S"], ["level", "N"]].map(
    ([AttributeName, AttributeType]) => ({ AttributeName, AttributeType }),
  ),
  KeySchema: key("pk", "sk"),
  LocalSecondaryIndexes: [{ IndexName: "byLevel", KeySchema: key("pk", "level"), Projection: { ProjectionType: "ALL" } }],
  GlobalSecondaryIndexes: [{ IndexName: "byKind", KeySchema: key("kind", "level"), Projection: { ProjectionType: "ALL" } }],
}));
await waitUntilTableExists({ client, maxWaitTime: 180, minDelay: 1, maxDelay: 2 }, { TableName: name });

const PokeTable = new Table({
  documentClient: DynamoDBDocumentClient.from(client, { marshallOptions: { removeUndefinedValues: true } }),
  name,
  partitionKey: { name: "pk", type: "string" },
  sortKey: { name: "sk", type: "string" },
  indexes: {
    byLevel: { type: "local", sortKey: { name: "level", type: "number" } },
    byKind: { type: "global", partitionKey: { name: "kind", type: "string" }, sortKey: { name: "level", type: "number" } },
  },
});
const Pokemon = new Entity({
  name: "POKEMON",
  table: PokeTable,
  schema: item({
    trainer: string().key().savedAs("pk").transform({ encode: (id) => `TRAINER#${id}`, decode: (id) => id.slice(8) }),
    id: string().key().savedAs("sk"),
    kind: string().enum("fire", "water", "grass"),
    level: number().default(1),
    moves: list(string()).default([]),
    tags: set(string()).optional(),
    stats: map({ attack: number(), defence: number().optional() }).optional(),
    nickname: string().optional(),
  }),
});
const Trainer = new Entity({
  name: "TRAINER",
  table: PokeTable,
  schema: item({
    id: string().key().savedAs("pk").transform({ encode: (id) => `TRAINER#${id}`, decode: (id) => id.slice(8) }),
    root: string().key().savedAs("sk").default("#"),
    badges: number().default(0),
  }),
});

const seen = {};
const strong = { consistent: true };
const failure = async (call) => {
  try { await call(); return "none"; } catch (error) { return error.name; }
};
const ids = (answer) => answer.Items.map(({ id }) => id);
try {
  const kinds = ["fire", "water", "grass"];
  const all = Array.from({ length: 12 }, (_, n) => ({
    trainer: "ash", id: `p${String(n).padStart(2, "0")}`, kind: kinds[n % 3], level: n * 10, stats: { attack: n },
  }));
  const batch = PokeTable.build(BatchWriteCommand).requests(...all.map((one) => Pokemon.build(BatchPutRequest).item(one)));
  seen.unprocessed = Object.keys((await executeBatchWrite(batch)).UnprocessedItems ?? {}).length;
  await Trainer.build(PutItemCommand).item({ id: "ash" }).send();

  // One item: conditions on what is there, updates of numbers, lists, sets and maps.
  const p00 = { trainer: "ash", id: "p00" };
  const absent = { condition: { attr: "id", exists: false } };
  seen.again = await failure(() => Pokemon.build(PutItemCommand).item(all[0]).options(absent).send());
  const updated = await Pokemon.build(UpdateItemCommand).item({
    ...p00, level: $add(99), moves: $append(["ember", "cut"]), tags: $add(new Set(["new", "rare"])), nickname: "Fifi",
    stats: { attack: $add(5), defence: 3 },
  }).options({ returnValues: "ALL_NEW", condition: { attr: "level", lt: 1 } }).send();
  const { level, moves, tags, stats, nickname } = updated.Attributes;
  seen.updated = [level, moves, [...tags].sort(), stats, nickname];
  await Pokemon.build(UpdateItemCommand).item({ ...p00, nickname: $remove(), tags: $delete(new Set(["new"])), level: $get("stats.attack") }).send();
  const got = (await Pokemon.build(GetItemCommand).key(p00).options(strong).send()).Item;
  seen.got = [got.level, got.nickname ?? null, [...got.tags]];
  const some = await Pokemon.build(GetItemCommand).key(p00).options({ ...strong, attributes: ["id", "stats.attack"] }).send();
  seen.attributes = some.Item;

  // Item collections: ranges, filters, order, pages, indexes, entities beside each other.
  const inTable = (query, options) => PokeTable.build(QueryCommand).query({ partition: "TRAINER#ash", ...query }).options({ ...strong, ...options });
  seen.range = ids(await inTable({ range: { between: ["p03", "p06"] } }).entities(Pokemon).send());
  seen.filtered = ids(await inTable({}, {
    reverse: true, filters: { POKEMON: { and: [{ attr: "kind", in: ["fire", "water"] }, { attr: "level", gte: 70 }] } },
  }).entities(Pokemon).send());
  seen.local = ids(await inTable({ index: "byLevel", range: { gt: 90 } }).entities(Pokemon).send());
  let page, pages = [];
  do {
    page = await inTable({}, { limit: 5, exclusiveStartKey: page?.LastEvaluatedKey }).entities(Pokemon, Trainer).send();
    pages.push(page.Items.length);
  } while (page.LastEvaluatedKey);
  seen.pages = pages;
  const inKind = () => PokeTable.build(QueryCommand).query({ index: "byKind", partition: "fire", range: { gte: 30 } }).entities(Pokemon).send();
  // The index follows its table: what p00 was for a moment (level 99) may still be there, so the count alone says nothing.
  const wanted = JSON.stringify(["p03", "p06", "p09"]);
  const end = Date.now() + 60_000;
  while (JSON.stringify(seen.global = ids(await inKind())) !== wanted && Date.now() < end) await new Promise((done) => setTimeout(done, 50));
  const scanned = await PokeTable.build(ScanCommand).entities(Pokemon, Trainer).options(strong).send();
  seen.scanned = [scanned.Items.length, scanned.Items.filter((one) => "badges" in one).length];
  const gets = PokeTable.build(BatchGetCommand).requests(...["p01", "p02"].map((id) => Pokemon.build(BatchGetRequest).key({ trainer: "ash", id })));
  seen.batch = (await executeBatchGet(gets.options(strong))).Responses[0].map(({ kind }) => kind).sort();

  // Transactions.
  const exists = { attr: "id", exists: true };
  await executeTransactWrite(
    Pokemon.build(PutTransaction).item({ trainer: "ash", id: "mew", kind: "grass" }).options(absent),
    Trainer.build(UpdateTransaction).item({ id: "ash", badges: $add(1) }),
    Pokemon.build(DeleteTransaction).key({ trainer: "ash", id: "p11" }),
    Pokemon.build(ConditionCheck).key({ trainer: "ash", id: "p01" }).condition(exists),
  );
  try {
    await executeTransactWrite(
      Trainer.build(UpdateTransaction).item({ id: "ash", badges: $add(1) }),
      Pokemon.build(ConditionCheck).key({ trainer: "ash", id: "p11" }).condition(exists),
    );
  } catch (error) {
    seen.cancelled = [error.name, error.CancellationReasons.map(({ Code }) => Code)];
  }
  const { Responses } = await executeTransactGet(
    Trainer.build(GetTransaction).key({ id: "ash" }),
    Pokemon.build(GetTransaction).key({ trainer: "ash", id: "p11" }),
    Pokemon.build(GetTransaction).key({ trainer: "ash", id: "mew" }),
  );
  seen.transaction = [Responses[0].Item.badges, Responses[1]?.Item ?? null, Responses[2].Item.kind];
  const deleted = await Pokemon.build(DeleteItemCommand).key({ trainer: "ash", id: "mew" }).options({ returnValues: "ALL_OLD" }).send();
  seen.deleted = deleted.Attributes.id;
} finally {
  await client.send(new DeleteTableCommand({ TableName: name }));
}
console.log(JSON.stringify(seen));
