//! `murmur report RUN`: a run as one page of HTML that can be opened anywhere and sent to anybody.
//!
//! Everything is in the file, nothing is fetched, and no script runs: the page says so to the browser too. What peers
//! wrote is text in it and never markup.

mod svg;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::answers::{self, Tone};
use super::draw::{NOTHING, duration, number, percent};
use super::tail::Tail;
use super::view::{Scene, View};
use crate::args::ReportArgs;
use crate::detail::{PromptRecord, RoundDetail};
use crate::exit::Outcome;
use crate::metrics::{Metrics, Step};
use crate::record::{FamilyRecord, Level, RoundRecord, RunDir};
use crate::{clock, printer};
use svg::Curve;

/// What the curves of learning say, and what not.
const MEANS: &str = "Answers are right by the reference answers, on the prompts that are trained on. The reward is what the \
                     vote pays, for agreement: above the part that is right it pays for what is wrong. Held-out accuracy is \
                     measured before and after a demo, and by murmur eval.";
const STYLE: &str = include_str!("style.css");
/// Warnings and errors that are listed, the newest.
const EVENTS_MAX: usize = 60;
/// Peers whose votes are drawn.
const PEERS_MAX: usize = 6;
/// Prompts of the newest round that are shown.
const PROMPTS_MAX: usize = 12;

/// Runs the command.
///
/// # Errors
/// The directory is no run, or the page cannot be written.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<Outcome> {
    let (run, info) = RunDir::find(args.run.as_deref())?;
    let (mut tail, mut view) = (Tail::new(run.path()), View::new(info));
    tail.look_at_all(&mut view);
    if let Some(problem) = &tail.problem {
        printer::note(&format!("{} records are left out, such as: {problem}", tail.damaged));
    }
    let detail = view.rounds.last().and_then(|round| tail.detail(round.round));
    let page = page(&Scene { view: &view, back: None, now_ms: clock::now_ms() }, detail.as_ref());
    let out: PathBuf = args.out.clone().unwrap_or_else(|| run.path().join("report.html"));
    fs::write(&out, page).with_context(|| format!("cannot write {}", out.display()))?;
    printer::data(&out.display().to_string())?;
    Ok(Outcome::Done)
}

/// The whole page.
fn page(scene: &Scene<'_>, detail: Option<&RoundDetail>) -> String {
    let view = scene.view;
    let title = match view.info.swarm.get(..8) {
        Some(swarm) => format!("murmur: swarm {swarm}"),
        None => "murmur".into(),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{0}</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    page.push_str(&head(scene));
    page.push_str(&asked(scene));
    let _ = write!(
        page,
        "<h2>Learning</h2>\n<p class=\"soft\">{MEANS}</p>\n<div class=\"charts\">\n{}</div>\n",
        charts(scene)
    );
    page.push_str(&families(scene));
    page.push_str(&peers(scene));
    page.push_str(&prompts(detail));
    page.push_str(&events(scene));
    page + "</body></html>\n"
}

/// `text` as text of a page, without what moves or reorders other text.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printer::clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn head(scene: &Scene<'_>) -> String {
    let (info, last) = (&scene.view.info, scene.round());
    let models: Vec<String> =
        info.peers.iter().map(|peer| format!("{} ({})", peer.name, peer.base)).collect();
    let mut parts = vec![
        format!("begun {}", info.started),
        format!("{} rounds", last.map_or(0, |round| round.round)),
        format!("rewarded by {}", info.arm),
        format!("murmur {}", info.version),
    ];
    parts.extend(
        last.filter(|round| !round.at.is_empty()).map(|round| format!("newest round ended {}", round.at)),
    );
    format!(
        "<p class=\"soft\">{}<br>{}<br><code>{}</code></p>\n",
        escape(&parts.join(" · ")),
        escape(&models.join(", ")),
        escape(&info.command)
    )
}

fn asked(scene: &Scene<'_>) -> String {
    let answer = |answer: &answers::Answer| {
        let class = match answer.tone {
            Tone::Good => "good",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
            Tone::Plain => "plain",
        };
        format!(
            "<div class=\"{class}\"><b>{} {}</b>{}</div>\n",
            answer.mark,
            answer.question,
            escape(&answer.text)
        )
    };
    let answers: String = answers::all(scene).iter().map(answer).collect();
    format!("<div class=\"answers\">\n{answers}</div>\n")
}

fn charts(scene: &Scene<'_>) -> String {
    let figure = |name: &str, of: fn(&RoundRecord) -> Option<f64>| Curve {
        name: name.into(),
        points: scene.figure(of),
    };
    let metric =
        |name: &str, of: fn(&Metrics) -> Option<f64>| Curve { name: name.into(), points: scene.metric(of) };
    let step = |name: &str, of: fn(&Step) -> f64| Curve {
        name: name.into(),
        points: scene.metric(move |line| line.step.as_ref().map(of)),
    };
    let span = scene.span();
    let shares = |title: &str, curves: &[Curve]| svg::chart(title, curves, true, span);
    let one = |title: &str, curve: Curve| svg::chart(title, &[curve], false, span);
    [
        shares(
            "Right and undecided",
            &[
                figure("answers right", |round| round.sampled_accuracy),
                figure("votes right", |round| round.vote_accuracy),
                figure("undecided", |round| round.undecided_share),
            ],
        ),
        shares(
            "Reward, and what it should be",
            &[metric("reward", |line| line.reward), metric("answers right", |line| line.gold_accuracy)],
        ),
        shares("Shows its reasoning", &[figure("reasoned", |round| round.trace_share)]),
        one("Loss", step("loss", |step| step.loss)),
        one("Entropy, nats", step("entropy", |step| step.entropy)),
        one("KL from the reference, nats", step("KL", |step| step.kl)),
        one("Norm of the gradient", step("norm", |step| step.grad_norm)),
        one("Tokens of a completion", metric("length", |line| line.mean_length)),
        one("Sampled tokens a second", metric("tokens", |line| line.tokens_per_second)),
        one("Seconds of a round", metric("seconds", |line| Some(line.round_seconds))),
        shares("Parts of the vote", &votes(scene)),
    ]
    .concat()
}

/// The parts of the vote of the peers that had most of it.
fn votes(scene: &Scene<'_>) -> Vec<Curve> {
    let mut most: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, peer) in scene.rounds().iter().flat_map(|round| &round.peers) {
        let highest = most.entry(name).or_default();
        *highest = highest.max(peer.weight);
    }
    let mut names: Vec<(&str, f64)> = most.into_iter().collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1));
    let curve = |name: &str| Curve {
        name: name.to_owned(),
        points: scene.figure(|round| round.peers.get(name).map(|peer| peer.weight)),
    };
    names.into_iter().take(PEERS_MAX).map(|(name, _)| curve(name)).collect()
}

/// A table; the first row is its head. Cells are escaped here.
fn table(rows: &[Vec<String>]) -> String {
    let row = |at: usize, cells: &Vec<String>| {
        let tag = if at == 0 { "th" } else { "td" };
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().enumerate().map(|(at, cells)| row(at, cells)).collect();
    format!("<div class=\"table\"><table>\n{rows}</table></div>\n")
}

fn cells(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn families(scene: &Scene<'_>) -> String {
    let mut sums: BTreeMap<&str, FamilyRecord> = BTreeMap::new();
    for (name, record) in scene.rounds().iter().flat_map(|round| &round.families) {
        let sum = sums.entry(name).or_default();
        sum.prompts += record.prompts;
        sum.decided += record.decided;
        sum.decided_right += record.decided_right;
    }
    if sums.is_empty() {
        return String::new();
    }
    let report = scene.view.report.as_ref();
    let held_out = |of: Option<&crate::evaluation::Evaluation>, family: &str| {
        percent(of.and_then(|evaluation| evaluation.per_family.get(family)).copied())
    };
    let share = |n: usize, of: usize| percent((of > 0).then(|| n as f64 / of as f64));
    let mut rows = vec![cells(&["family", "prompts", "decided", "votes right", "held-out before", "after"])];
    for (name, sum) in &sums {
        rows.push(vec![
            (*name).to_owned(),
            sum.prompts.to_string(),
            share(sum.decided, sum.prompts),
            share(sum.decided_right, sum.decided),
            held_out(report.and_then(|report| report.before.as_ref()), name),
            held_out(report.and_then(|report| report.after.as_ref()), name),
        ]);
    }
    format!("<h2>Tasks</h2>\n{}", table(&rows))
}

fn peers(scene: &Scene<'_>) -> String {
    let Some(round) = scene.round() else { return String::new() };
    let report = scene.view.report.as_ref();
    let mut rows =
        vec![cells(&["peer", "vote", "right on gold", "tried", "timely", "held-out before", "after"])];
    for (name, peer) in &round.peers {
        let measured = report.and_then(|report| report.peers.get(name));
        let mean = |of: Option<&crate::evaluation::Evaluation>| percent(of.map(|evaluation| evaluation.mean));
        rows.push(vec![
            name.clone(),
            percent(Some(peer.weight)),
            percent(Some(peer.accuracy)),
            peer.tried.to_string(),
            percent(Some(peer.liveness)),
            mean(measured.and_then(|peer| peer.before.as_ref())),
            mean(measured.and_then(|peer| peer.after.as_ref())),
        ]);
    }
    format!("<h2>Peers after round {}</h2>\n{}", round.round, table(&rows))
}

/// Prompts of the newest round, each behind its question.
fn prompts(detail: Option<&RoundDetail>) -> String {
    let Some(detail) = detail.filter(|detail| !detail.prompts.is_empty()) else { return String::new() };
    let shown: String = detail.prompts.iter().take(PROMPTS_MAX).map(prompt).collect();
    let left = detail.prompts.len().saturating_sub(PROMPTS_MAX);
    let more = if left > 0 { format!("<p class=\"soft\">and {left} more</p>\n") } else { String::new() };
    format!("<h2>Round {} as {} saw it</h2>\n{shown}{more}", detail.round, escape(&detail.peer))
}

fn prompt(prompt: &PromptRecord) -> String {
    let label = &prompt.label;
    let answer = label.answer.as_deref().unwrap_or(NOTHING);
    let outcome = match &label.undecided {
        None => format!("teaches {answer}, {} of the others' vote", percent(Some(label.share))),
        Some(why) => format!("teaches nothing: {why}"),
    };
    let candidate = |candidate: &crate::detail::CandidateRecord| {
        let (class, mark) = match candidate.right {
            Some(true) => (" class=\"good-text\"", "✓"),
            Some(false) => (" class=\"bad-text\"", "✗"),
            None => ("", "·"),
        };
        let (share, backers) = (percent(Some(candidate.share)), candidate.backers.join(", "));
        format!("<li{class}>{mark} {} {share} {}</li>\n", escape(&candidate.answer), escape(&backers))
    };
    let candidates: String = prompt.candidates.iter().map(candidate).collect();
    let own: String = prompt
        .own
        .iter()
        .map(|own| {
            let answer = own.answer.as_deref().unwrap_or("no readable answer");
            format!(
                "<li>{}× {}: reward {}</li>\n",
                own.count,
                escape(answer),
                own.reward.map_or(NOTHING.into(), number)
            )
        })
        .collect();
    format!(
        "<details><summary><code>{}</code> {}</summary>\n<p>candidates by vote</p><ul>\n{candidates}</ul>\n<p>own answers</p><ul>\n{own}</ul>\n</details>\n",
        escape(&prompt.question),
        escape(&outcome)
    )
}

fn events(scene: &Scene<'_>) -> String {
    let worth: Vec<_> = scene.events().filter(|event| event.level > Level::Info).collect();
    let total: f64 = scene.rounds().iter().map(|round| round.wall_ms as f64 / 1000.0).sum();
    let heading = format!("<h2>Warnings and errors: {} in {}</h2>\n", worth.len(), escape(&duration(total)));
    let newest = worth.iter().rev().take(EVENTS_MAX);
    let item = |event: &&&crate::record::Event| {
        let who = event.tellers(scene.view.info.peers.len());
        format!("<li>round {}, {}: {}</li>\n", event.round, escape(&who), escape(&event.text))
    };
    let items: String = newest.map(|event| item(&event)).collect();
    if items.is_empty() {
        heading + "<p>none</p>\n"
    } else {
        format!("{heading}<details><summary>the newest</summary><ul>\n{items}</ul></details>\n")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::Event;

    fn recorded() -> (View, Option<RoundDetail>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard/run");
        let (run, info) = RunDir::open(&path).unwrap();
        let (mut tail, mut view) = (Tail::new(run.path()), View::new(info));
        tail.look_at_all(&mut view);
        let detail = tail.detail(10);
        (view, detail)
    }

    fn drawn(view: &View, detail: Option<&RoundDetail>) -> String {
        page(&Scene { view, back: None, now_ms: 0 }, detail)
    }

    /// Every element of the page that is not closed, or closed without being open.
    fn unbalanced(page: &str) -> Vec<String> {
        let (mut open, mut wrong) = (Vec::new(), Vec::new());
        for tag in page.split('<').skip(1).filter_map(|part| part.split('>').next()) {
            let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap_or_default();
            if tag.starts_with('!') || tag.ends_with('/') || ["meta", "br"].contains(&name) {
                continue;
            }
            match tag.starts_with('/') {
                false => open.push(name),
                true if open.last() == Some(&name) => drop(open.pop()),
                true => wrong.push(name.to_owned()),
            }
        }
        wrong.extend(open.into_iter().map(str::to_owned));
        wrong
    }

    #[test]
    fn a_page_holds_everything_and_asks_for_nothing() {
        let (view, detail) = recorded();
        let page = drawn(&view, detail.as_ref());
        assert_eq!(unbalanced(&page), Vec::<String>::new());
        assert_eq!(page.matches("<figure").count(), 11, "every chart");
        for text in
            ["yes: one of 4", "fresh-fox", "held-out before", "teaches ", "seq", "Warnings and errors"]
        {
            assert!(page.contains(text), "no {text}");
        }
        // What makes a browser fetch or run something.
        for text in ["src=", "href=", "url(", "@import", "<script", "<link", "<iframe", "http://", "https://"]
        {
            assert!(!page.contains(text), "{text}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn strangers_write_no_markup() {
        let (mut view, mut detail) = recorded();
        let evil = "<script>alert(1)</script>\" onload='x' \u{202e}&";
        for event in &mut view.events {
            (event.text, event.level) = (evil.into(), Level::Error);
        }
        view.events.push(Event { peer: evil.into(), level: Level::Warn, ..Event::default() });
        let prompt = &mut detail.as_mut().unwrap().prompts[0];
        (prompt.question, prompt.label.answer) = (evil.into(), Some(evil.into()));
        prompt.candidates[0].answer = evil.into();
        let page = drawn(&view, detail.as_ref());
        assert!(
            !page.contains("<script") && !page.contains("onload='") && !page.contains('\u{202e}'),
            "{page}"
        );
        assert_eq!(unbalanced(&page), Vec::<String>::new());
    }

    #[test]
    fn a_run_without_records_has_a_page() {
        let view = View::default();
        assert_eq!(unbalanced(&drawn(&view, None)), Vec::<String>::new());
    }
}
