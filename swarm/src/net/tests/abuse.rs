//! Peers that send what no honest peer would, and what reaches the others of it.

use super::*;

const HONEST: usize = 8;
const FLOODERS: usize = 2;
/// Messages of each peer a second: of one who floods, and of an honest one.
const FLOOD_PER_S: u32 = 100;
const HONEST_PER_S: u32 = 4;
/// How long honest peers go on talking.
const TALK: Duration = Duration::from_secs(4);

/// What came of a flood.
#[derive(Debug, Default)]
struct Flood {
    /// Messages of the flooders, and those that an honest peer had to look at.
    sent: u32,
    looked_at: u32,
    /// From the first message of the flood to the last that anybody looked at, and to the last link cut.
    last: Duration,
    cut: Duration,
    links_cut: usize,
    /// Messages of honest peers, how often they arrived, and the delays.
    said: u32,
    delays: Vec<Duration>,
}

/// A fifth of the peers send rubbish that they made up, all the time.
async fn flood(count: usize) -> Flood {
    let mut peers = peers((HONEST + count) as u8).await;
    mesh(&mut peers).await;
    let begun = Instant::now();
    let (mut flood, mut said) = (Flood::default(), BTreeMap::new());
    let due = |rate: u32, made: u32| begun + Duration::from_secs(1) * made / rate;
    while begun.elapsed() < TALK {
        let now = Instant::now();
        while count > 0 && due(FLOOD_PER_S, flood.sent / count as u32) <= now {
            let place = HONEST + flood.sent as usize % count;
            // Once everybody has turned it away, it speaks to nobody.
            peers[place].shout(Topic::Votes, format!("rubbish {}", flood.sent).into_bytes());
            flood.sent += 1;
        }
        while due(HONEST_PER_S, flood.said / HONEST as u32) <= now {
            let text = format!("sense {}", flood.said);
            peers[flood.said as usize % HONEST].publish(Topic::Votes, text.clone().into_bytes()).unwrap();
            said.insert(text, Instant::now());
            flood.said += 1;
        }
        let next = due(HONEST_PER_S, flood.said / HONEST as u32).min(now + Duration::from_millis(5));
        while let Some((at, event)) = one_event(&mut peers, next).await {
            match event {
                NetEvent::Message { token, bytes, .. } => {
                    let text = String::from_utf8(bytes).unwrap();
                    let rubbish = text.starts_with("rubbish");
                    let verdict = if rubbish && at < HONEST { Verdict::Reject } else { Verdict::Accept };
                    peers[at].verdict(token, verdict);
                    if at < HONEST && rubbish {
                        flood.looked_at += 1;
                        flood.last = begun.elapsed();
                    } else if at < HONEST {
                        flood.delays.push(said[&text].elapsed());
                    }
                }
                NetEvent::Refused { peer, why } if at < HONEST => {
                    assert!((HONEST..HONEST + count).any(|bad| peer == Some(key(bad as u8 + 1))), "{why}");
                    flood.links_cut += 1;
                    flood.cut = begun.elapsed();
                }
                _ => {}
            }
        }
    }
    flood.delays.sort_unstable();
    flood
}

#[tokio::test]
async fn a_fifth_of_the_peers_that_flood_are_cut_off_and_slow_nobody() {
    let quiet = flood(0).await;
    let loud = flood(FLOODERS).await;
    for flood in [&quiet, &loud] {
        let Flood { sent, looked_at, last, cut, links_cut, said, delays } = flood;
        let whole = *said as usize * (HONEST - 1);
        let (median, most) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
        println!(
            "{sent} invalid messages sent, {looked_at} looked at, the last after {last:.2?}; {links_cut} links cut within \
             {cut:.2?}; honest: {} of {whole} delivered, half within {median:.2?}, 99 of 100 within {most:.2?}",
            delays.len()
        );
    }
    assert_eq!(loud.links_cut, HONEST * FLOODERS);
    // Three invalid messages are what a link's score can bear; a few more were read before the verdict on those.
    assert!(loud.looked_at <= 10 * (HONEST * FLOODERS) as u32, "{}", loud.looked_at);
    assert!(loud.cut < Duration::from_secs(3), "{:?}", loud.cut);
    // What was said within the last instant may still be under way.
    let whole = |flood: &Flood| flood.said as usize * (HONEST - 1);
    assert!(100 * loud.delays.len() >= 97 * whole(&loud), "{} of {}", loud.delays.len(), whole(&loud));
}
