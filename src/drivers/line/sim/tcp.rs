//! Connections that come and go.
use super::*;
