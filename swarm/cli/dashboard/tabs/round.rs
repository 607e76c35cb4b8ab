//! Round: each prompt with its candidates and votes, what it teaches this peer, and why.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::dashboard::chrome::Sight;
use crate::dashboard::draw::{self, bar, fit, pad, percent, wrap};
use crate::dashboard::ui::Ui;
use crate::detail::{OwnRecord, PromptRecord};
use crate::record::RoundRecord;

/// Columns of the bar of a share.
const BAR: usize = 10;
/// Candidates that are shown however low the screen is, and lines of everything else.
const CANDIDATES_MIN: usize = 3;
const OTHER_LINES: usize = 14;
/// Lines of a question.
const QUESTION_LINES: usize = 6;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, sight: &Sight<'_>, ui: &mut Ui) {
    let theme = sight.theme;
    let list_width = if area.width >= 110 { 48 } else { 28 };
    let [left, right] = Layout::horizontal([Constraint::Length(list_width), Constraint::Min(30)]).areas(area);
    let Some(round) = sight.scene.round() else {
        let inner = draw::panel(frame, area, draw::title("Round", theme), theme);
        return draw::lines(frame, inner, vec![Line::styled(" no round has ended yet", theme.dim())]);
    };
    let heading = draw::title(&format!("Round {} prompts", round.round), theme);
    let inner = draw::panel(frame, left, heading, theme);
    let Some(detail) = sight.detail.filter(|detail| detail.round == round.round) else {
        draw::lines(frame, inner, vec![Line::styled(" not recorded", theme.dim())]);
        let inner = draw::panel(frame, right, draw::title("Prompt", theme), theme);
        let text = "The prompts of this round are not in prompts.jsonl: the peer was not in it, or an older version recorded it.";
        return draw::lines(
            frame,
            inner,
            wrap(text, inner.width.into()).into_iter().map(Line::from).collect(),
        );
    };
    let text = |prompt: &PromptRecord| format!("{} {}", prompt.family, prompt.question);
    let prompts: Vec<(usize, &PromptRecord)> =
        detail.prompts.iter().enumerate().filter(|(_, prompt)| ui.passes(&text(prompt))).collect();
    let (selected, rows) = ui.window(inner, prompts.len(), false);
    let width = usize::from(inner.width);
    let row = |at: usize| {
        let (_, prompt) = prompts[at];
        let (mark, style) = mark(prompt, sight);
        let question = prompt.question.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = Line::from(vec![
            Span::styled(format!(" {mark} "), style),
            Span::styled(format!("{} ", pad(&prompt.family, 5.min(width / 4))), theme.dim()),
            Span::raw(fit(&question, width.saturating_sub(10))),
        ]);
        if at == selected { line.style(theme.selected()) } else { line }
    };
    draw::lines(frame, inner, rows.map(row).collect());
    match prompts.get(selected) {
        Some((at, prompt)) => draw_prompt(frame, right, sight, round, (*at, prompt)),
        None => {
            let inner = draw::panel(frame, right, draw::title("Prompt", theme), theme);
            draw::lines(
                frame,
                inner,
                vec![Line::styled(" no prompt contains the filter; esc drops it", theme.dim())],
            );
        }
    }
}

/// How a prompt ended for this peer.
fn mark(prompt: &PromptRecord, sight: &Sight<'_>) -> (&'static str, Style) {
    let theme = sight.theme;
    match (&prompt.label.undecided, label_right(prompt)) {
        (Some(_), _) => ("·", theme.dim()),
        (None, Some(true)) => ("✓", theme.good()),
        (None, Some(false)) => ("✗", theme.bad()),
        (None, None) => ("●", theme.accent()),
    }
}

/// Whether the label is right, where there is a reference answer.
fn label_right(prompt: &PromptRecord) -> Option<bool> {
    let label = prompt.label.answer.as_ref()?;
    prompt.candidates.iter().find(|candidate| candidate.answer == *label)?.right
}

fn draw_prompt(
    frame: &mut Frame<'_>,
    area: Rect,
    sight: &Sight<'_>,
    round: &RoundRecord,
    (at, prompt): (usize, &PromptRecord),
) {
    let theme = sight.theme;
    let level = if prompt.level > 0 { format!(" level {}", prompt.level) } else { String::new() };
    let heading = format!("{} · {}{level}", at + 1, prompt.family);
    let inner = draw::panel(frame, area, draw::title(&heading, theme), theme);
    let width = usize::from(inner.width).saturating_sub(1);
    let mut rows = question(prompt, width, sight);
    rows.push(Line::default());
    let most = usize::from(inner.height).saturating_sub(OTHER_LINES).max(CANDIDATES_MIN);
    rows.extend(candidates(prompt, most, width, sight));
    rows.push(Line::default());
    rows.extend(lesson(prompt, width, sight));
    rows.extend(critiques(round, at, width, sight));
    if !prompt.completion.is_empty() {
        rows.extend([Line::default(), Line::styled(" its first completion", theme.strong())]);
        rows.extend(
            wrap(&prompt.completion, width.saturating_sub(2))
                .into_iter()
                .map(|text| Line::raw(format!("  {text}"))),
        );
    }
    draw::lines(frame, inner, rows);
}

fn question(prompt: &PromptRecord, width: usize, sight: &Sight<'_>) -> Vec<Line<'static>> {
    let mut rows: Vec<Line<'_>> = prompt
        .question
        .lines()
        .flat_map(|line| wrap(line, width))
        .take(QUESTION_LINES)
        .map(|text| Line::styled(format!(" {text}"), sight.theme.strong()))
        .collect();
    if let Some(gold) = &prompt.gold {
        rows.push(Line::styled(
            format!(" reference answer {}", fit(gold, width.saturating_sub(17))),
            sight.theme.dim(),
        ));
    }
    rows
}

/// The answers with their parts of the vote, the strongest first.
fn candidates(prompt: &PromptRecord, most: usize, width: usize, sight: &Sight<'_>) -> Vec<Line<'static>> {
    let theme = sight.theme;
    let mut rows = vec![Line::styled(" candidates by vote", theme.strong())];
    if prompt.candidates.is_empty() {
        rows.push(Line::styled("  nobody gave a readable answer", theme.dim()));
    }
    let longest =
        prompt.candidates.iter().map(|candidate| draw::columns(&candidate.answer)).max().unwrap_or(0);
    let answers = longest.clamp(3, (width / 3).max(3));
    let backers_width = width.saturating_sub(answers + BAR + 11);
    for candidate in prompt.candidates.iter().take(most) {
        let (mark, style) = match candidate.right {
            Some(true) => ("✓", theme.good()),
            Some(false) => ("✗", theme.bad()),
            None => (" ", theme.accent()),
        };
        rows.push(Line::from(vec![
            Span::styled(format!(" {mark} "), style),
            Span::raw(pad(&candidate.answer, answers)),
            Span::styled(format!(" {} ", bar(candidate.share, BAR)), style),
            Span::raw(format!("{:>5} ", percent(Some(candidate.share)))),
            Span::styled(fit(&candidate.backers.join(", "), backers_width), theme.dim()),
        ]));
    }
    let more = prompt.more + prompt.candidates.len().saturating_sub(most);
    if more > 0 {
        rows.push(Line::styled(format!("   and {more} more"), theme.dim()));
    }
    rows
}

/// What the prompt teaches this peer, and what its answers earned by it.
fn lesson(prompt: &PromptRecord, width: usize, sight: &Sight<'_>) -> Vec<Line<'static>> {
    let theme = sight.theme;
    let label = &prompt.label;
    let answer = label.answer.as_deref().unwrap_or(draw::NOTHING);
    let share = percent(Some(label.share));
    let text = match &label.undecided {
        None => format!("teaches {answer}: {share} of the others' vote, {} behind it", label.supporters),
        Some(why) => format!(
            "teaches nothing: {why} ({answer} has {share} of the others' vote, {} behind it)",
            label.supporters
        ),
    };
    let style = if label.undecided.is_none() { theme.accent() } else { theme.warn() };
    let mut rows: Vec<Line<'_>> =
        wrap(&text, width).into_iter().map(|text| Line::styled(format!(" {text}"), style)).collect();
    rows.extend(
        prompt.own.iter().map(|own| Line::raw(format!("  {}", fit(&earned(own), width.saturating_sub(1))))),
    );
    rows
}

fn earned(own: &OwnRecord) -> String {
    let answer =
        own.answer.as_deref().map_or("no readable answer".into(), |answer| format!("own answer {answer}"));
    let reward =
        own.reward.map_or("no reward, none is given here".into(), |reward| format!("reward {reward:.2}"));
    format!("{}× {answer}: {reward}", own.count)
}

fn critiques(round: &RoundRecord, at: usize, width: usize, sight: &Sight<'_>) -> Vec<Line<'static>> {
    let said = round.critiques.iter().flat_map(|critiques| &critiques.said).filter(|said| said.prompt == at);
    let mut rows: Vec<Line<'_>> = said
        .flat_map(|said| {
            let text = format!("{} of {}: {}. {}", said.critic, said.answer, said.verdict, said.reason);
            wrap(&text, width.saturating_sub(2)).into_iter().map(|text| Line::raw(format!("  {text}")))
        })
        .collect();
    if !rows.is_empty() {
        rows.splice(0..0, [Line::default(), Line::styled(" critiques", sight.theme.strong())]);
    }
    rows
}
