//! The units of one line behind tokio-modbus' server: an implementation of the slave side that is not ours, so that a
//! misreading of the protocol cannot cancel itself out.

use super::unit::{NoSuchAddress, Tally, Unit};
use crate::{model::Boot, system::clock::Clock};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest, server::Service};

/// Handed to every server of the line; all see the same units.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Mutex<Shared>>,
    serial: bool,
    clock: Clock,
    started: Boot,
}

struct Shared {
    units: BTreeMap<u8, Unit>,
    silent: BTreeSet<u8>,
    requests: u64,
}

impl Bus {
    pub fn new(serial: bool, units: &BTreeSet<u8>, silent: &BTreeSet<u8>, seed: u64, clock: Clock) -> Bus {
        let units = units.iter().map(|n| (*n, Unit::new(*n, seed))).collect();
        let shared = Shared { units, silent: silent.clone(), requests: 0 };
        Bus { shared: Arc::new(Mutex::new(shared)), serial, clock, started: clock.now() }
    }

    /// From now on the unit answers nothing.
    pub fn kill(&self, unit: u8) {
        self.lock().silent.insert(unit);
    }

    pub fn revive(&self, unit: u8) {
        self.lock().silent.remove(&unit);
    }

    /// Requests that arrived whole, for whatever unit.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    pub fn tallies(&self) -> BTreeMap<u8, Tally> {
        self.lock().units.iter().map(|(n, unit)| (*n, unit.tally())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A unit is consistent after every statement that changes it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: SlaveRequest<'_>) -> Result<Option<Response>, ExceptionCode> {
        let at = self.clock.now() - self.started;
        let mut shared = self.lock();
        shared.requests += 1;
        let Shared { units, silent, .. } = &mut *shared;
        if self.serial && asked.slave == 0 {
            for unit in units.iter_mut().filter(|(n, _)| !silent.contains(n)).map(|(_, unit)| unit) {
                // A broadcast: executed by all who can, answered by none.
                let _ = execute(unit, &asked.request, at);
            }
            return Ok(None);
        }
        let Some(unit) = units.get_mut(&asked.slave) else {
            // Nobody there: a bus stays silent, a gateway says that its target did not respond.
            return if self.serial || silent.contains(&asked.slave) { Ok(None) } else { Err(ExceptionCode::GatewayTargetDevice) };
        };
        if silent.contains(&asked.slave) {
            unit.tally.ignored += 1;
            return Ok(None);
        }
        execute(unit, &asked.request, at).map(Some).inspect_err(|_| unit.tally.refused += 1)
    }
}

fn execute(unit: &mut Unit, request: &Request<'_>, at: std::time::Duration) -> Result<Response, ExceptionCode> {
    let refused = |NoSuchAddress| ExceptionCode::IllegalDataAddress;
    match request {
        Request::ReadCoils(start, count) => unit.read_coils(*start, *count).map(Response::ReadCoils).map_err(refused),
        Request::ReadDiscreteInputs(start, count) => {
            unit.read_discrete(*start, *count, at).map(Response::ReadDiscreteInputs).map_err(refused)
        }
        Request::ReadHoldingRegisters(_, count) | Request::ReadInputRegisters(_, count) if *count > 125 => {
            Err(ExceptionCode::IllegalDataValue)
        }
        Request::ReadHoldingRegisters(start, count) => {
            unit.read_holding(*start, *count, at).map(Response::ReadHoldingRegisters).map_err(refused)
        }
        Request::ReadInputRegisters(start, count) => unit.read_input(*start, *count, at).map(Response::ReadInputRegisters).map_err(refused),
        Request::WriteSingleCoil(address, on) => {
            unit.write_coils(*address, &[*on]).map(|()| Response::WriteSingleCoil(*address, *on)).map_err(refused)
        }
        Request::WriteMultipleCoils(start, bits) => {
            let count = u16::try_from(bits.len()).map_err(|_| ExceptionCode::IllegalDataValue)?;
            unit.write_coils(*start, bits).map(|()| Response::WriteMultipleCoils(*start, count)).map_err(refused)
        }
        Request::WriteSingleRegister(address, word) => {
            unit.write_holding(*address, &[*word]).map(|()| Response::WriteSingleRegister(*address, *word)).map_err(refused)
        }
        Request::WriteMultipleRegisters(start, words) => {
            let count = u16::try_from(words.len()).map_err(|_| ExceptionCode::IllegalDataValue)?;
            unit.write_holding(*start, words).map(|()| Response::WriteMultipleRegisters(*start, count)).map_err(refused)
        }
        Request::MaskWriteRegister(address, and, or) => {
            unit.mask_holding(*address, *and, *or).map(|()| Response::MaskWriteRegister(*address, *and, *or)).map_err(refused)
        }
        _ => Err(ExceptionCode::IllegalFunction),
    }
}

impl Service for Bus {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Option<Response>, ExceptionCode>>;

    fn call(&self, asked: SlaveRequest<'static>) -> Self::Future {
        ready(self.answer(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(serial: bool) -> Bus {
        Bus::new(serial, &BTreeSet::from([1, 2, 3]), &BTreeSet::from([3]), 0, Clock::Real)
    }

    #[track_caller]
    fn check(bus: &Bus, slave: u8, request: Request<'static>, want: Result<Option<Response>, ExceptionCode>) {
        assert_eq!(bus.answer(SlaveRequest { slave, request }), want);
    }

    #[test]
    fn a_silent_killed_or_absent_unit_says_nothing_on_a_bus() {
        let bus = bus(true);
        let read = || Request::ReadHoldingRegisters(3, 1);
        check(&bus, 1, read(), Ok(Some(Response::ReadHoldingRegisters(vec![1]))));
        check(&bus, 3, read(), Ok(None));
        check(&bus, 9, read(), Ok(None));
        bus.kill(1);
        check(&bus, 1, read(), Ok(None));
        bus.revive(1);
        bus.revive(3);
        check(&bus, 1, read(), Ok(Some(Response::ReadHoldingRegisters(vec![1]))));
        check(&bus, 3, read(), Ok(Some(Response::ReadHoldingRegisters(vec![3]))));
        assert_eq!(bus.tallies()[&1], Tally { reads: 2, read_values: 2, ignored: 1, ..Tally::default() });
        assert_eq!(bus.requests(), 6);
    }

    #[test]
    fn a_gateway_names_an_absent_unit_by_exception_11() {
        check(&bus(false), 9, Request::ReadCoils(0, 1), Err(ExceptionCode::GatewayTargetDevice));
        check(&bus(false), 3, Request::ReadCoils(0, 1), Ok(None));
    }

    #[test]
    fn a_broadcast_is_executed_by_all_and_answered_by_none() {
        let bus = bus(true);
        check(&bus, 0, Request::WriteSingleRegister(100, 5), Ok(None));
        check(&bus, 2, Request::ReadHoldingRegisters(100, 1), Ok(Some(Response::ReadHoldingRegisters(vec![5]))));
        check(&bus, 1, Request::ReadInputRegisters(900, 1), Ok(Some(Response::ReadInputRegisters(vec![1]))));
    }

    #[test]
    fn refusals_carry_the_code_of_the_protocol() {
        let bus = bus(true);
        check(&bus, 1, Request::ReadHoldingRegisters(500, 1), Err(ExceptionCode::IllegalDataAddress));
        check(&bus, 1, Request::ReadHoldingRegisters(0, 126), Err(ExceptionCode::IllegalDataValue));
        check(&bus, 1, Request::ReportServerId, Err(ExceptionCode::IllegalFunction));
        assert_eq!(bus.tallies()[&1].refused, 3);
    }
}
