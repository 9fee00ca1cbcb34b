//! Bytes to values and back: jute, frames, requests, replies, txns. Pure, and safe on any input: nothing here panics
//! on bytes from outside, and memory grows with bytes received, never with lengths announced.
//! Not here: sockets, files, decisions, and the log's own framing and trailer (`log`).

pub mod connect;
pub mod frame;
pub mod jute;
pub mod multi;
pub mod op;
pub mod reply;
pub mod request;
pub mod txn;

pub use connect::{ConnectRequest, ConnectResponse};
pub use jute::{JutePut, Malformed, Reader};
pub use op::OpCode;
pub use request::{Request, RequestHeader};
pub use txn::{AclBytes, Create, CreateKind, SubTxn, TxnBody, TxnDigest, TxnEntry, TxnHeader};
