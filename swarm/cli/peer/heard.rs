//! What the network tells a peer, and what comes of packs that travel over it.

use swarm::engine::Input;
use swarm::net::NetEvent;

use super::Peer;
use crate::news::News;
use crate::proposals::{Checked, Said};

impl Peer {
    pub(super) async fn network_event(&mut self, event: NetEvent) {
        let now = self.now();
        match event {
            NetEvent::Message { token, topic, bytes, .. } => {
                let verdict = self.engine.receive(now, topic, &bytes);
                self.network.verdict(token, verdict);
            }
            NetEvent::Request { bytes, channel, .. } => {
                let answer = self.proposals.serve(&bytes).or_else(|| self.offers.serve(&bytes));
                if let Some(answer) = answer.or_else(|| self.engine.serve(&bytes)) {
                    // The asker may be gone by now; it asks again.
                    if let Err(error) = self.network.respond(channel, answer) {
                        tracing::debug!(%error, "answer to a request not sent");
                    }
                }
            }
            NetEvent::Response { from, request, bytes } => {
                if !self.proposals.answered(&mut self.network, from, &request, Some(&bytes)) {
                    self.engine.handle(now, Input::Repair { from, bytes });
                }
            }
            NetEvent::Fetched { blob, bytes } => match self.proposals.fetched(&blob, Some(&bytes)) {
                Some(said) => self.say_of_packs(said).await,
                None => self.engine.handle(now, Input::Fetched { blob, bytes }),
            },
            NetEvent::FetchFailed { blob, .. } if self.proposals.fetched(&blob, None).is_some() => {}
            NetEvent::FetchFailed { blob, why } => {
                tracing::debug!(blob = %blob.hash, why, "long answers not fetched");
                self.engine.handle(now, Input::FetchFailed { blob });
            }
            NetEvent::Connected(_) => {}
            NetEvent::Disconnected { peer, why } => tracing::debug!(%peer, why, "disconnected"),
            NetEvent::RequestFailed { to, request, why } => {
                self.proposals.answered(&mut self.network, to, &request, None);
                tracing::debug!(peer = %to, why, "request failed");
            }
            NetEvent::Listening(address) => tracing::info!(address, "listening"),
            NetEvent::Addresses => {
                self.engine.handle(now, Input::Addresses(self.network.listen_addresses()));
            }
            NetEvent::Reach(what) => tracing::info!("{what}"),
            NetEvent::Unreachable { address, why, attempts } => {
                // Told at once and then ever more rarely.
                if attempts.is_power_of_two() {
                    self.tell(News::Network(format!("cannot reach {address}: {why} (attempt {attempts})")))
                        .await;
                }
            }
            NetEvent::Refused { why, .. } => self.tell(News::Network(why)).await,
            NetEvent::Dropped { reason, count } => {
                self.tell(News::Network(format!("{count} messages dropped: {reason}"))).await;
            }
        }
    }

    /// Looks at the swarm's packs at the start of a round, and says what is to be said.
    pub(super) async fn look_at_packs(&mut self) {
        let round = self.engine.status(self.now()).round;
        let Some(packs) = self.engine.packs() else { return };
        let said = self.proposals.look(&mut self.network, round, packs);
        self.say_of_packs(said).await;
    }

    /// A pack was checked.
    pub(super) async fn checked(&mut self, checked: Checked) {
        let said = self.proposals.take(&mut self.network, checked);
        self.say_of_packs(said).await;
        self.look_at_packs().await;
    }

    async fn say_of_packs(&mut self, said: Vec<Said>) {
        let now = self.now();
        for said in said {
            match said {
                Said::Have(pack) => self.engine.handle(now, Input::Pack(pack)),
                Said::Gone(id) => self.engine.handle(now, Input::PackGone(id)),
                Said::Vote(vote) => self.engine.handle(now, Input::PackVote(vote)),
                Said::Note(text) => self.tell(News::Pack(text)).await,
            }
        }
    }
}
