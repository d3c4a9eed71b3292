// Drives an endpoint with ElectroDB, entities of one table with a global index, and says what it saw, as one line of JSON.
// Usage: node electro.mjs http://127.0.0.1:8000
import { CreateTableCommand, DeleteTableCommand, DynamoDBClient, waitUntilTableExists } from "@aws-sdk/client-dynamodb";
import { Entity, Service } from "electrodb";

const client = new DynamoDBClient({
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "evenkeel", secretAccessKey: "evenkeel" },
});
const table = `electro-${Date.now()}`;
const key = (partition, sort) => [
  { AttributeName: partition, KeyType: "HASH" },
  { AttributeName: sort, KeyType: "RANGE" },
];
await client.send(new CreateTableCommand({
  TableName: table,
  BillingMode: "PAY_PER_REQUEST",
  AttributeDefinitions: ["pk", "sk", "gsi1pk", "gsi1sk"].map((name) => ({ AttributeName: name, AttributeType: "S" })),
  KeySchema: key("pk", "sk"),
  GlobalSecondaryIndexes: [{ IndexName: "gsi1", KeySchema: key("gsi1pk", "gsi1sk"), Projection: { ProjectionType: "ALL" } }],
}));
await waitUntilTableExists({ client, maxWaitTime: 180, minDelay: 1, maxDelay: 2 }, { TableName: table });

const Task = new Entity({
  model: { entity: "task", version: "1", service: "work" },
  attributes: {
    team: { type: "string", required: true },
    task: { type: "string", required: true },
    project: { type: "string", required: true },
    status: { type: ["open", "in-progress", "closed"], default: "open" },
    points: { type: "number" },
    tags: { type: "set", items: "string" },
    comments: { type: "list", items: { type: "map", properties: { user: { type: "string" }, body: { type: "string" } } } },
  },
  indexes: {
    projects: { pk: { field: "pk", composite: ["team"] }, sk: { field: "sk", composite: ["project", "task"] } },
    board: {
      index: "gsi1", collection: "board",
      pk: { field: "gsi1pk", composite: ["project"] }, sk: { field: "gsi1sk", composite: ["status", "task"] },
    },
  },
}, { client, table });
const Member = new Entity({
  model: { entity: "member", version: "1", service: "work" },
  attributes: { project: { type: "string", required: true }, name: { type: "string", required: true } },
  indexes: {
    names: { pk: { field: "pk", composite: ["name"] }, sk: { field: "sk", composite: [] } },
    board: {
      index: "gsi1", collection: "board",
      pk: { field: "gsi1pk", composite: ["project"] }, sk: { field: "gsi1sk", composite: ["name"] },
    },
  },
}, { client, table });
const work = new Service({ task: Task, member: Member }, { client, table });
const seen = {};
const strong = { consistent: true };
const names = (answer) => answer.data.map((item) => item.task);
const failure = async (call) => {
  try { await call(); return "none"; } catch (error) { return (error.cause ?? error).name; }
};
// The index follows its table.
const until = async (call, wanted) => {
  const end = Date.now() + 60_000;
  for (;;) {
    const got = await call();
    if (JSON.stringify(got) === JSON.stringify(wanted) || Date.now() > end) return got;
    await new Promise((done) => setTimeout(done, 50));
  }
};

const many = Array.from({ length: 30 }, (_, n) => ({ team: "core", project: n % 2 ? "odd" : "even", task: `t${10 + n}` }));
seen.unprocessed = (await Task.put(many).go()).unprocessed.length;
const first = { team: "core", project: "even", task: "t10" };
seen.created = await failure(() => Task.create(first).go());
await Member.create({ project: "even", name: "janet" }).go();

await Task.patch(first).set({ status: "in-progress" }).add({ points: 5, tags: ["new"] })
  .append({ comments: [{ user: "janet", body: "half-baked" }] }).where(({ status }, { eq }) => eq(status, "open")).go();
seen.stale = await failure(() => Task.patch(first).set({ status: "closed" }).where(({ status }, { eq }) => eq(status, "open")).go());
seen.nobody = await failure(() => Task.patch({ ...first, task: "none" }).set({ points: 1 }).go());
const got = (await Task.get(first).go(strong)).data;
seen.patched = [got.status, got.points, got.tags, got.comments];

seen.range = names(await Task.query.projects({ team: "core", project: "odd" }).between({ task: "t11" }, { task: "t19" }).go(strong));
seen.filtered = names(await Task.query.projects({ team: "core" }).where(({ points }, { gt }) => gt(points, 4)).go(strong));
let cursor = null;
seen.pages = [];
do {
  const page = await Task.query.projects({ team: "core", project: "even" }).go({ ...strong, cursor, limit: 4, order: "desc" });
  seen.pages.push(page.data.length);
  cursor = page.cursor;
} while (cursor);
seen.all = names(await Task.query.projects({ team: "core" }).go({ ...strong, pages: "all" })).length;
seen.batch = names(await Task.get([first, { ...first, task: "t12" }]).go(strong)).sort();

const board = async () => {
  const { data } = await work.collections.board({ project: "even" }).go({ pages: "all" });
  return [data.task.length, data.member.map((member) => member.name)];
};
seen.board = await until(board, [15, ["janet"]]);
const moving = async () => names(await Task.query.board({ project: "even", status: "in-progress" }).go());
seen.moved = await until(moving, ["t10"]);

const done = await work.transaction.write(({ task, member }) => [
  task.delete({ ...first, task: "t12" }).commit(),
  task.patch({ ...first, task: "t14" }).set({ status: "closed" }).commit(),
  member.create({ project: "even", name: "tom" }).commit(),
]).go();
const again = await work.transaction.write(({ task, member }) => [
  task.delete({ ...first, task: "t16" }).commit(),
  member.create({ project: "even", name: "tom" }).commit(),
]).go();
seen.transactions = [done.canceled, again.canceled, again.data.map((one) => one.code)];
const read = await work.transaction.get(({ task }) => [
  task.get({ ...first, task: "t12" }).commit(),
  task.get({ ...first, task: "t14" }).commit(),
  task.get({ ...first, task: "t16" }).commit(),
]).go();
seen.read = read.data.map((one) => one.item?.status ?? null);
await client.send(new DeleteTableCommand({ TableName: table }));
console.log(JSON.stringify(seen));
