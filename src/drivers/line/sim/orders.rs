//! Orders.
use super::*;
