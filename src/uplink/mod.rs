//! The cloud side: MQTT session, pump (spool -> batches -> acknowledgement -> release), dialects.

pub mod dialect;
