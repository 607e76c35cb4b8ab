//! Logs on a disk: whole, torn, damaged, and written again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::frame::frame;
use super::{LogError, Reader, Record, Torn, Writer};
use crate::engine::tests::manifest;
use crate::identity::Identity;
use crate::manifest::Manifest;
use crate::wire::{self, Hash};

/// All records of a log.
pub(crate) fn records(path: &Path) -> Vec<Record> {
    let mut reader = Reader::open(path).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap().map(|frame| frame.record)).collect()
}

/// Writes a log of these records, lengths, checksums and chain all in order.
pub(crate) fn write_raw(path: &Path, records: &[Record]) {
    let mut chain = Hash::default();
    let mut bytes = Vec::new();
    for record in records {
        let (framed, next) = frame(&chain, &wire::encode(record)).unwrap();
        bytes.extend(framed);
        chain = next;
    }
    fs::write(path, bytes).unwrap();
}

fn identity() -> Identity {
    Identity::from_seed([1; 32])
}

fn swarm() -> Manifest {
    manifest(&[identity().public()], 1)
}

fn message(i: u8) -> Record {
    Record::Message { late: i.is_multiple_of(2), envelope: vec![i; 20 + usize::from(i)] }
}

/// A log with a few records, not closed.
fn some_log(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("log");
    let (mut log, opening) = Writer::open(&path, &identity(), &swarm()).unwrap();
    assert!(opening.records == 0 && opening.torn.is_none() && opening.closed);
    (0..5).for_each(|i| log.append(&message(i)).unwrap());
    path
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_log(&dir);
    let before = fs::read(&path).unwrap();
    let (mut log, opening) = Writer::open(&path, &identity(), &swarm()).unwrap();
    assert_eq!((opening.records, opening.torn, opening.closed), (6, None, false));
    log.append(&message(9)).unwrap();
    log.close().unwrap();
    let after = fs::read(&path).unwrap();
    assert_eq!(after[..before.len()], before, "only appended");
    let records = records(&path);
    assert_eq!(records[6], message(9));
    let Record::Seal(seal) = &records[7] else { panic!("{:?}", records[7]) };
    assert!(seal.closing && seal.records == 7, "{seal:?}");
    let marks: usize = records[..7].iter().map(|record| record.parts().len()).sum();
    assert_eq!(seal.marks.len(), 8 * marks, "of both starts");
    assert!(Writer::open(&path, &identity(), &swarm()).unwrap().1.closed);
}

#[test]
fn a_torn_tail_is_cut_counted_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_log(&dir);
    let whole = fs::read(&path).unwrap();
    let (mut log, _) = Writer::open(&path, &identity(), &swarm()).unwrap();
    log.append(&message(7)).unwrap();
    drop(log);
    let longer = fs::read(&path).unwrap();
    for len in whole.len() + 1..longer.len() {
        fs::write(&path, &longer[..len]).unwrap();
        let torn = Torn { offset: whole.len() as u64, bytes: (len - whole.len()) as u64 };
        let mut reader = Reader::open(&path).unwrap();
        while reader.next_frame().unwrap().is_some() {}
        assert_eq!(reader.torn(), Some(torn));
        let (mut log, opening) = Writer::open(&path, &identity(), &swarm()).unwrap();
        assert_eq!((opening.records, opening.torn), (6, Some(torn)));
        log.append(&message(7)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), longer, "as if nothing had happened");
    }
    // What some file systems leave after a power cut.
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0; 9000]).unwrap();
    let (_, opening) = Writer::open(&path, &identity(), &swarm()).unwrap();
    assert_eq!(opening.torn, Some(Torn { offset: longer.len() as u64, bytes: 9000 }));
    // Killed while it wrote the very first record.
    fs::write(&path, &whole[..10]).unwrap();
    let (_, opening) = Writer::open(&path, &identity(), &swarm()).unwrap();
    assert_eq!((opening.records, opening.torn.map(|torn| torn.bytes)), (0, Some(10)));
    assert!(matches!(records(&path)[..], [Record::Header(_)]));
}

#[test]
fn a_flipped_byte_anywhere_is_damage_and_nothing_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_log(&dir);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            fs::write(&path, &bad).unwrap();
            let mut reader = Reader::open(&path).unwrap();
            let error = loop {
                match reader.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("byte {at} ^ {mask:02x} was not noticed"),
                    Err(error) => break error,
                }
            };
            let LogError::Damaged { offset, .. } = &error else { panic!("{error}") };
            assert!(*offset <= at as u64, "{error}");
            let refused = Writer::open(&path, &identity(), &swarm()).unwrap_err().to_string();
            assert!(refused.contains("log, record ") && refused.contains("\nhint: "), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), bad, "left as it is");
        }
    }
}

#[test]
fn declared_lengths_are_checked_before_memory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let bomb = u32::MAX - 1;
    fs::write(&path, [bomb.to_le_bytes(), (!bomb).to_le_bytes()].concat()).unwrap();
    let error = Reader::open(&path).unwrap().next_frame().unwrap_err().to_string();
    assert!(error.contains("more bytes than a record may have"), "{error}");
    fs::remove_file(&path).unwrap();
    let path = some_log(&dir);
    let (mut log, _) = Writer::open(&path, &identity(), &swarm()).unwrap();
    let long = Record::Certificate { certificate: vec![0; super::RECORD_BYTES_MAX] };
    assert!(matches!(log.append(&long), Err(LogError::TooLong { .. })));
    log.append(&message(1)).unwrap();
    assert_eq!(records(&path).len(), 7, "the log goes on");
}

#[test]
fn logs_of_others_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = some_log(&dir);
    let good = fs::read(&path).unwrap();
    let other = Identity::from_seed([2; 32]);
    let text = |result: Result<_, LogError>| result.map(|_: (Writer, _)| ()).unwrap_err().to_string();
    assert!(text(Writer::open(&path, &other, &swarm())).contains("of another peer"));
    let swarm = Manifest { seed: "other".into(), ..swarm() };
    assert!(text(Writer::open(&path, &identity(), &swarm)).contains("of another swarm"));
    assert_eq!(fs::read(&path).unwrap(), good);
    assert!(matches!(Reader::open(dir.path()), Err(LogError::Io { .. })), "not a file");
}

#[test]
fn many_records_are_sealed_before_their_marks_grow_large() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (mut log, _) = Writer::open(&path, &identity(), &swarm()).unwrap();
    let short = Record::Message { late: false, envelope: vec![1] };
    (0..20_000).for_each(|_| log.append(&short).unwrap());
    log.close().unwrap();
    let records = records(&path);
    let seals: Vec<usize> = records
        .iter()
        .filter_map(|r| if let Record::Seal(s) = r { Some(s.marks.len()) } else { None })
        .collect();
    assert!(seals.len() == 2 && seals.iter().all(|len| *len <= 256 * 1024 + 64), "{seals:?}");
}
