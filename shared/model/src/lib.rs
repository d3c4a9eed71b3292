//! The data model of the DynamoDB API: attribute values, numbers, items, keys, table definitions, item sizes, capacity
//! units and API errors. Owns every encoding of them (DynamoDB JSON, the stored binary form, order-preserving keys).
//! Never does I/O, never evaluates expressions (`expression`), never talks to anyone.

pub mod capacity;
pub mod codec;
pub mod error;
pub mod index;
pub mod json;
pub mod key;
pub mod number;
pub mod policy;
pub mod size;
pub mod stream;
pub mod table;
pub mod throughput;
pub mod ttl;
pub mod units;
pub mod value;

pub use error::{ApiError, ErrorKind};
pub use key::{EncodedKey, KeyRange};
pub use number::Number;
pub use table::{IndexId, TableDefinition, TableId};
pub use units::Units;
pub use value::{AttributeValue, Item};
