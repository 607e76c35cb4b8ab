//! Frames of a recorded run (`murmur demo --seed 7 --liars 1 --rounds 10 --prompts 6 --out run`), compared with kept
//! ones: `UPDATE_EXPECT=1 cargo test --release --bin murmur frames` writes them anew, to be looked at.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::happenings::{self, LATE};
use crate::record::{CritiqueRecord, Event, Level, PackRecord, SaidRecord, Status};

/// The moment of the recorded `status.json` plus a little: what a live frame is drawn at.
const LITTLE_MS: u64 = 1200;

fn recorded() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard")
}

fn open() -> (Tail, View) {
    let (run, info) = RunDir::open(&recorded().join("run")).unwrap();
    let (mut tail, mut view) = (Tail::new(run.path()), View::new(info));
    tail.look_at_all(&mut view);
    assert_eq!(tail.problem, None);
    (tail, view)
}

/// Compares a frame with the kept one.
fn expect(name: &str, frame: &str) {
    let path = recorded().join("frames").join(format!("{name}.txt"));
    let frame = format!("{frame}\n");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return fs::write(path, frame).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == frame, "{name} is drawn differently now; hint: UPDATE_EXPECT=1\n{frame}\nwas\n{kept}");
}

fn size(text: &str) -> Size {
    Size::parse(text).unwrap()
}

#[test]
fn frames_of_every_tab_are_as_they_were() {
    let (mut tail, view) = open();
    for tab in Tab::ALL {
        for text in ["80x24", "140x45"] {
            let frame = still(&mut tail, &view, &mut Ui::on(tab), size(text), 0).unwrap();
            expect(&format!("{}-{text}", tab.name().to_lowercase()), &frame);
        }
    }
}

#[test]
fn frames_of_a_run_that_goes_on_and_of_a_look_back() {
    let (mut tail, mut view) = open();
    let mut ui = Ui::on(Tab::Overview);
    ui.back = Some(4);
    expect("overview-back-80x24", &still(&mut tail, &view, &mut ui, size("80x24"), 0).unwrap());
    ui.help = true;
    expect("help-80x24", &still(&mut tail, &view, &mut ui, size("80x24"), 0).unwrap());

    view.report = None;
    let status = view.status.as_mut().unwrap();
    (status.ended, status.member) = (false, true);
    status.phase = "critique".into();
    status.awaited = vec![view.info.peers[1].name.clone()];
    status.deadline_ms = status.at_ms + 9_000;
    let at_ms = status.at_ms;
    let text = happenings::late(swarm::engine::PhaseName::Answer, 41_000, Some(38_200));
    let me = view.me().to_owned();
    let late = Event { round: 9, level: Level::Warn, kind: LATE.into(), peer: me, text, ..Event::default() };
    view.fold(view::Fact::Event(late));
    let mut live = |name: &str, tab, now_ms| {
        let frame = still(&mut tail, &view, &mut Ui::on(tab), size("80x24"), now_ms).unwrap();
        expect(name, &frame);
        frame
    };
    let frame = live("overview-live-80x24", Tab::Overview, at_ms + LITTLE_MS);
    assert!(
        frame.contains("8 s left") && frame.contains("sampling took 41.0 s, the phase 38.2 s"),
        "{frame}"
    );
    live("swarm-live-80x24", Tab::Swarm, at_ms + LITTLE_MS);
    let frame = live("overview-dead-80x24", Tab::Overview, at_ms + 60_000);
    assert!(frame.contains("no sign of life for 60 s"), "{frame}");
    let status = view.status.as_mut().unwrap();
    let lacks = [(stranger(1), Some("stopped by its user".to_owned())), (stranger(2), None)];
    status.lacks = lacks.each_ref().map(|(peer, _)| peer.name()).to_vec();
    status.waiting = happenings::lacking(&lacks.into());
    let frame = still(&mut tail, &view, &mut Ui::on(Tab::Overview), size("80x24"), at_ms).unwrap();
    expect("overview-lacking-80x24", &frame);
    let status = view.status.as_mut().unwrap();
    status.lacks.clear();
    status.roster.truncate(2);
    let scene = Scene { view: &view, back: None, now_ms: at_ms };
    let [.., learning, _] = answers::all(&scene);
    assert!(learning.text.starts_with("not now: 2 voters"), "{learning:?}");
}

/// A key that is nobody's here.
fn stranger(byte: u8) -> judge::PeerKey {
    judge::PeerKey([byte; 32])
}

#[test]
fn who_waits_alone_sees_how_many_come_and_how_they_join() {
    let (_, recorded) = open();
    let dir = tempfile::tempdir().unwrap();
    let mut view = View::new(RunInfo { peers: recorded.info.peers[..1].to_vec(), ..recorded.info });
    view.status =
        Some(Status { wanted: 3, waiting: "waiting for peers: 1 of 3 here".into(), ..Status::default() });
    let frame =
        |view: &View| still(&mut Tail::new(dir.path()), view, &mut Ui::on(Tab::Overview), FRAME, 0).unwrap();
    assert!(frame(&view).contains("with a config that has the same [swarm] section"), "{}", frame(&view));
    view.info.join = format!("murmur join murmur1{}", "Ym9vdHN0cmFw".repeat(24));
    expect("overview-waiting-80x24", &frame(&view));
}

#[test]
fn what_is_of_now_is_said_to_be_while_looking_back() {
    let (mut tail, view) = open();
    for (tab, says) in
        [(Tab::Swarm, "after round 4, by vote; latency, brought, link: now"), (Tab::Network, "until now")]
    {
        let mut ui = Ui::on(tab);
        ui.back = Some(4);
        let frame = still(&mut tail, &view, &mut ui, FRAME, 0).unwrap();
        assert!(frame.contains(says), "{frame}");
    }
}

#[test]
fn a_tabs_own_keys_have_room_before_all_others() {
    let (mut tail, view) = open();
    for (tab, keys) in
        [(Tab::Logs, "? help  / filter  ↑↓ move  v level"), (Tab::Swarm, "? help  / filter  ↑↓ move  s sort")]
    {
        let mut ui = Ui::on(tab);
        ui.back = Some(4);
        let frame = still(&mut tail, &view, &mut ui, size("60x16"), 0).unwrap();
        assert!(frame.lines().last().unwrap().contains(keys), "{frame}");
    }
}

#[test]
fn a_run_that_has_just_begun_has_every_tab_too() {
    let (_, recorded) = open();
    let dir = tempfile::tempdir().unwrap();
    let mut tail = Tail::new(dir.path());
    for info in [recorded.info, RunInfo::default()] {
        let view = View::new(info);
        for tab in Tab::ALL {
            for text in ["80x24", "140x45", "60x16", "200x20"] {
                let frame = still(&mut tail, &view, &mut Ui::on(tab), size(text), 0).unwrap();
                assert!(frame.contains(tab.name()), "{frame}");
            }
        }
    }
}

#[test]
fn strangers_cannot_move_the_cursor_or_reorder_text() {
    let (mut tail, mut view) = open();
    view.events.clear();
    let text = "a\u{1b}[2Jb\u{202e}dlrow\u{200f} c\u{7}d".to_owned();
    view.fold(view::Fact::Event(Event { text, peer: view.me().into(), ..Event::default() }));
    for tab in Tab::ALL {
        let frame = still(&mut tail, &view, &mut Ui::on(tab), size("80x24"), 0).unwrap();
        assert_eq!(printer::clean(&frame), frame);
    }
}

#[test]
fn packs_under_vote_and_open_levels_stand_beside_the_families() {
    let (mut tail, mut view) = open();
    let round = view.rounds.last_mut().unwrap();
    round.open_levels = [("add".to_owned(), 3)].into();
    let pack = |accepted, state: &str| PackRecord {
        id: "b3:0123456789abcdef".into(),
        weight: 1,
        accepted,
        state: state.into(),
    };
    round.packs = vec![pack(true, "accepted for round 7 and on"), pack(false, "under vote for 2 rounds")];
    let frame = still(&mut tail, &view, &mut Ui::on(Tab::Tasks), size("140x45"), 0).unwrap();
    for text in ["add    3 open", "50 %  native:six", "b3:01234567 accepted", "–  b3:01234567 under vote"] {
        assert!(frame.contains(text), "no {text} in {frame}");
    }
}

#[test]
fn critiques_stand_beside_the_prompt_that_they_are_of() {
    let (mut tail, mut view) = open();
    let said = |prompt, reason: &str| SaidRecord {
        critic: "fresh-fox".into(),
        prompt,
        answer: "479".into(),
        verdict: "right".into(),
        reason: reason.into(),
    };
    let said = vec![said(0, "3 and 6 make 9"), said(1, "of another prompt")];
    view.rounds.last_mut().unwrap().critiques = Some(CritiqueRecord { said, ..CritiqueRecord::default() });
    let frame = still(&mut tail, &view, &mut Ui::on(Tab::Round), size("140x45"), 0).unwrap();
    assert!(frame.contains("fresh-fox of 479: right. 3 and 6 make 9"), "{frame}");
    assert!(!frame.contains("of another prompt"), "{frame}");
}

#[test]
fn a_filter_that_nothing_passes_leaves_a_frame() {
    let (mut tail, view) = open();
    for tab in Tab::ALL {
        let mut ui = Ui::on(tab);
        ui.filter = "nothing has this".into();
        let frame = still(&mut tail, &view, &mut ui, size("80x24"), 0).unwrap();
        assert!(frame.contains("/nothing has this"), "{frame}");
    }
}

#[test]
fn sizes_are_columns_and_rows() {
    assert_eq!(size("140x45"), Size { width: 140, height: 45 });
    for wrong in ["", "80", "80x", "x24", "10x10", "80x24x3", "-80x24", "9999x24"] {
        assert!(Size::parse(wrong).unwrap_err().contains("140x45"), "{wrong}");
    }
}
