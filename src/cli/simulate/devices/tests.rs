use super::*;
use crate::{
    config::Table,
    drivers::modbus::{Answer, Ask, Scan, mbap, pdu, rtu},
    model::Boot,
};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One transaction by our own codecs: the reply's data (empty for a write), or the exception's code.
async fn transact(port: &mut (impl AsyncRead + AsyncWrite + Unpin), framing: Framing, unit: u8, ask: &Ask) -> Result<Vec<u8>, u8> {
    let mut frame = Vec::new();
    match framing {
        Framing::Tcp => mbap::encode(7, unit, ask, &mut frame),
        Framing::Rtu => rtu::encode(unit, ask, &mut frame),
    }
    port.write_all(&frame).await.unwrap();
    let mut heard = Vec::new();
    loop {
        let scan = match framing {
            Framing::Tcp => mbap::scan(&heard, 7, unit, ask),
            Framing::Rtu => rtu::scan(&heard, unit, ask),
        };
        match scan {
            Scan::More { .. } => assert!(port.read_buf(&mut heard).await.unwrap() > 0, "closed after {heard:02x?}"),
            Scan::Reply { pdu, .. } => {
                return match pdu::check(ask, &heard[pdu]).unwrap() {
                    Answer::Data(data) => Ok(data.to_vec()),
                    Answer::Written => Ok(Vec::new()),
                    Answer::Exception(code) => Err(code),
                };
            }
            other => panic!("{other:?} for {ask:?} in {heard:02x?}"),
        }
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Tcp,
    Rtu,
}

fn read(table: Table, start: u16, count: u16) -> Ask {
    Ask::Read { table, start, count }
}

/// Every function, judged by tokio-modbus on one side and by us on the other.
async fn speaks_every_function(port: &mut (impl AsyncRead + AsyncWrite + Unpin), framing: Framing) {
    let mut ask = async |ask: Ask| transact(port, framing, 2, &ask).await;
    assert_eq!(ask(read(Table::Holding, 2, 2)).await, Ok(vec![0, 0, 0, 2]));
    assert_eq!(ask(read(Table::Holding, 2, 1)).await, Ok(vec![0, 1]));
    assert_eq!(ask(Ask::WriteRegister { address: 101, value: 67 }).await, Ok(vec![]));
    assert_eq!(ask(Ask::WriteRegisters { start: 102, words: vec![0x1234, 0x5678] }).await, Ok(vec![]));
    assert_eq!(ask(read(Table::Holding, 101, 3)).await, Ok(vec![0, 67, 0x12, 0x34, 0x56, 0x78]));
    assert_eq!(ask(Ask::WriteCoil { address: 3, on: true }).await, Ok(vec![]));
    let bits = [true, false, true, true, false, false, false, false, true].to_vec();
    assert_eq!(ask(Ask::WriteCoils { start: 4, bits }).await, Ok(vec![]));
    assert_eq!(ask(read(Table::Coil, 3, 10)).await, Ok(vec![0b0001_1011, 0b10]));
    assert_eq!(ask(read(Table::Discrete, 0, 16)).await.map(|bytes| bytes.len()), Ok(2));
    assert_eq!(ask(read(Table::Input, 0, 125)).await.map(|bytes| bytes.len()), Ok(250));
    assert_eq!(ask(read(Table::Holding, 500, 1)).await, Err(2));
    assert_eq!(ask(Ask::WriteRegister { address: 5, value: 1 }).await, Err(2));
}

#[tokio::test]
async fn tcp_devices_speak_every_function_and_end_with_the_stop() {
    let stop = CancellationToken::new();
    let config = Config { tcp: vec!["127.0.0.1:0".parse().unwrap()], silent: [3].into(), ..Config::default() };
    let running = Devices::start(config, stop.clone()).await.unwrap();
    let mut port = TcpStream::connect(running.tcp_addrs[0]).await.unwrap();
    speaks_every_function(&mut port, Framing::Tcp).await;
    assert_eq!(transact(&mut port, Framing::Tcp, 99, &read(Table::Coil, 0, 1)).await, Err(11));
    running.kill_unit(0, 2);
    let coil = read(Table::Coil, 0, 1);
    let waited = tokio::time::timeout(Duration::from_millis(100), transact(&mut port, Framing::Tcp, 2, &coil));
    assert!(waited.await.is_err());
    running.revive_unit(0, 2);
    assert_eq!(transact(&mut port, Framing::Tcp, 2, &read(Table::Coil, 3, 1)).await, Ok(vec![1]));
    stop.cancel();
    let counters = running.ended().await;
    assert_eq!(counters[0].units[&2].writes["holding:101"], 1);
    assert_eq!(counters[0].units[&2].ignored, 1);
    assert_eq!(port.read(&mut [0]).await.unwrap(), 0, "closed by the stop");
}

#[tokio::test]
async fn rtu_devices_speak_every_function_at_the_speed_of_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("bus");
    let config = Config { rtu: vec![link.clone()], baud: 19_200, parity: Parity::None, ..Config::default() };
    let running = Devices::start(config, CancellationToken::new()).await.unwrap();
    let open = || SerialStream::open(&tokio_serial::new(link.to_string_lossy(), 19_200)).unwrap();
    let mut port = open();
    speaks_every_function(&mut port, Framing::Rtu).await;
    let before = Clock::Real.now();
    assert_eq!(transact(&mut port, Framing::Rtu, 1, &read(Table::Input, 0, 100)).await.map(|bytes| bytes.len()), Ok(200));
    check_duration(before, 8 + 205, 10, 19_200);
    drop(port);
    // A bus survives a master that goes and comes, and noise.
    let mut port = open();
    port.write_all(&[0xff; 40]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(transact(&mut port, Framing::Rtu, 1, &read(Table::Holding, 3, 1)).await, Ok(vec![0, 1]));
    let wire = running.counters()[0].wire.unwrap();
    assert_eq!(wire.collisions, 0);
    assert!(wire.bytes_from_master > 100 && wire.bytes_to_master > 500, "{wire:?}");
    drop(running);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(link.symlink_metadata().is_err(), "the link is gone with the devices");
}

/// At least what the wire takes, and not seconds more, although the machine may be busy.
#[track_caller]
fn check_duration(before: Boot, bytes: u64, bits: u64, baud: u64) {
    let took = Clock::Real.now() - before;
    let wire = Duration::from_micros(bytes * bits * 1_000_000 / baud);
    assert!(took >= wire && took < wire + Duration::from_secs(10), "{bytes} bytes took {took:?}, the wire takes {wire:?}");
}

#[tokio::test]
async fn what_cannot_be_had_is_said_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("file");
    std::fs::write(&taken, "").unwrap();
    let first = dir.path().join("bus");
    let config = Config { rtu: vec![first.clone(), taken], ..Config::default() };
    let Err(error) = Devices::start(config, CancellationToken::new()).await else { panic!("a file was replaced") };
    assert!(matches!(error, SimulateError::Link { .. }), "{error}");
    assert!(first.symlink_metadata().is_err());
}
