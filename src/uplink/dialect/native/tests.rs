use super::*;
use crate::model::{Alive, Row};
fn x(){}
