//! The Modbus protocol as pure functions: requests, replies, framing, read plan, decoding, encoding.
