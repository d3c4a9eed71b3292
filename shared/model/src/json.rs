//! DynamoDB JSON for attribute values and items: streaming serde in both directions, no generic JSON tree; nesting is
//! bounded while parsing; values are validated (types, numbers, sets, base64) with DynamoDB's messages.
