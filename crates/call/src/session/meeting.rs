//! How the two ends find each other: sealed signals over a line, offers and answers.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use transport::{OpenError, Packetizer, Role, Seal, Signal, VERSION};

use super::{Input, Session, random};
use crate::event::{CallFailure, End};
use crate::link::{Link, LinkEvent};
use crate::order::settings;

impl Session {
    pub(super) fn say_here(&mut self, now: Instant) {
        self.last_here = Some(now);
        self.signal(&Signal::Announce(VERSION));
    }

    pub(super) fn signal(&mut self, signal: &Signal) {
        if let Some(line) = &self.line {
            line.send(self.parts.seal.seal(&signal.to_bytes()));
        }
    }

    pub(super) async fn take_sealed(
        &mut self,
        now: Instant,
        sealed: &[u8],
    ) -> Result<(), CallFailure> {
        let opened = match self.parts.seal.open(sealed) {
            Err(OpenError::AnotherPeer) if !self.is_alive(now) => {
                // It has started again, and what we had of it is dead: so do we.
                self.parts.seal = self.fresh_seal();
                self.parts.seal.open(sealed)
            }
            opened => opened,
        };
        // What does not open is a stranger's, or late: the call does not care.
        let Some(signal) = opened.ok().and_then(|bytes| Signal::parse(&bytes).ok()) else {
            return Ok(());
        };
        match (signal, self.parts.role) {
            (Signal::Announce(theirs), Role::Host) => {
                if theirs != VERSION {
                    return Err(CallFailure::OtherVersion { theirs, ours: VERSION });
                }
                if self.linking_since.is_some() && self.open == [false; 2] && !self.lost {
                    return Ok(());
                }
                let (link, events) = self.new_link().await?;
                self.adopt(link, events);
                if let Some(link) = &mut self.link {
                    let offer = link.offer().await?;
                    self.signal(&Signal::Offer(offer));
                }
            }
            (Signal::Offer(offer), Role::Guest) => {
                let answer = self.answer(offer).await?;
                self.signal(&Signal::Answer(answer));
            }
            (Signal::Answer(answer), Role::Host) => {
                if let Some(link) = &self.link {
                    link.accept(answer).await?;
                }
            }
            (Signal::Candidate(candidate), _) => {
                if let Some(link) = &self.link {
                    // A candidate of a kind this machine does not know is not worth a call.
                    let _ = link.add_candidate(candidate).await;
                }
            }
            (Signal::Leave, _) if self.open == [false; 2] => self.end = Some(End::PeerHungUp),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn fresh_seal(&self) -> Seal {
        Seal::new(self.parts.secret.clone(), self.parts.role, random())
    }

    pub(super) async fn new_link(&self) -> Result<(Link, mpsc::Receiver<LinkEvent>), CallFailure> {
        Ok(Link::new(&self.parts.link_settings, Arc::clone(&self.parts.meter)).await?)
    }

    pub(super) async fn answer(&mut self, offer: String) -> Result<String, CallFailure> {
        let (link, events) = self.new_link().await?;
        self.adopt(link, events);
        match &mut self.link {
            Some(link) => Ok(link.answer(offer).await?),
            None => Err(CallFailure::NoPath),
        }
    }

    /// Makes `link` the one that counts; what an older one still says is not heard.
    pub(super) fn adopt(&mut self, link: Link, mut events: mpsc::Receiver<LinkEvent>) {
        if let Some(old) = self.link.replace(link) {
            tokio::spawn(async move { old.close().await });
        }
        self.generation += 1;
        self.linking_since = Some(Instant::now());
        self.open = [false; 2];
        self.greeted = false;
        self.packetizer = Packetizer::new(settings(self.parts.rate));
        self.receiving.restart(self.peer_face.profile.clone());
        let (generation, inputs) = (self.generation, self.parts.inputs.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if inputs.send(Input::Link(generation, event)).await.is_err() {
                    return;
                }
            }
        });
    }
}
