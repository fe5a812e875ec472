//! The enrollment screen: progress and a way to cancel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use capture::SourceSpec;
use face::ConsentForm;

use enroll::{EnrollmentProgress, EnrollmentReport, Warning};

use super::theme;
use crate::consent;
use crate::face_files;

/// Time limit of an enrollment in the window.
const BUDGET: Duration = Duration::from_mins(10);
/// Longest wait for a canceled enrollment when the window closes.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Enrollment running in the background.
pub(super) struct EnrollmentScreen {
    name: String,
    messages: Receiver<Message>,
    is_cancelled: Arc<AtomicBool>,
    stage: String,
    fraction: f32,
    detail: String,
    /// What is wrong with the recording, with what to do about it.
    warnings: Vec<Warning>,
}

enum Message {
    Progress(EnrollmentProgress),
    Done(String),
}

impl EnrollmentScreen {
    /// Starts to enroll a face called `name`, whose person has just consented.
    ///
    /// # Errors
    /// If the folder for faces cannot be created.
    pub(super) fn start(name: &str, source: SourceSpec) -> anyhow::Result<Self> {
        let folder = face_files::enrolled_folder()?;
        capture::create_private_folder(&folder)?;
        let file: String =
            name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let mut options = enroll::EnrollOptions {
            consent: Some(consent::given_now(ConsentForm::Window)),
            budget: enroll::Budget::Time(BUDGET),
            ..enroll::EnrollOptions::new(source, folder.join(format!("{file}.face")))
        };
        let (sender, messages) = sync_channel(16);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let cancel = Arc::clone(&is_cancelled);
        std::thread::Builder::new().name("enroll".to_owned()).spawn(move || {
            // Here, because the key store may ask the user for a password.
            let result = face_files::own_key().and_then(|(key, _)| {
                options.key = Some(key);
                enroll::enroll(options, &mut |at| {
                    // If the queue is full, the next report replaces this one.
                    let _ = sender.try_send(Message::Progress(at.clone()));
                    !cancel.load(Ordering::Relaxed)
                })
            });
            let outcome = match result {
                Ok(report) => outcome(&report),
                Err(error) => format!("{error:#}"),
            };
            let _ = sender.send(Message::Done(outcome));
        })?;
        Ok(Self {
            name: name.to_owned(),
            messages,
            is_cancelled,
            stage: "starting".to_owned(),
            fraction: 0.0,
            detail: String::new(),
            warnings: Vec::new(),
        })
    }

    /// Cancels the enrollment and waits a while until its checkpoint is written.
    pub(super) fn stop(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while let Some(left) = deadline.checked_duration_since(Instant::now())
            && let Ok(Message::Progress(_)) = self.messages.recv_timeout(left)
        {}
    }

    /// Shows the screen and returns the outcome once the enrollment has ended.
    pub(super) fn show(&mut self, ui: &mut egui::Ui) -> Option<String> {
        loop {
            match self.messages.try_recv() {
                Ok(Message::Progress(at)) => {
                    (self.stage, self.fraction) = (at.stage.to_string(), at.fraction);
                    (self.detail, self.warnings) = (at.detail, at.warnings);
                }
                Ok(Message::Done(outcome)) => return Some(outcome),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Some("The enrollment stopped unexpectedly".to_owned());
                }
            }
        }
        egui::CentralPanel::default().show(ui, |ui| {
            ui.vertical_centered(|ui| {
                ui.set_max_width(520.0);
                ui.add_space(ui.available_height() * 0.25);
                ui.heading(format!("Enrolling {}", self.name));
                ui.label("Look at the camera, speak, turn your head slowly, blink, smile.");
                ui.add(egui::ProgressBar::new(self.fraction).show_percentage().fill(theme::ACCENT));
                ui.label(egui::RichText::new(format!("{} {}", self.stage, self.detail)).weak());
                for warning in &self.warnings {
                    ui.label(egui::RichText::new(sentence(warning)).color(theme::DANGER));
                    ui.label(egui::RichText::new(warning.advice()).weak());
                }
                if ui.button("Cancel").clicked() {
                    self.is_cancelled.store(true, Ordering::Relaxed);
                }
            });
        });
        ui.ctx().request_repaint_after(Duration::from_millis(100));
        None
    }
}

/// Returns the result, with everything that was wrong, for the home screen.
fn outcome(report: &EnrollmentReport) -> String {
    let mut text = format!("Enrolled: {:.1} dB on held-out frames", report.psnr_db);
    for warning in &report.warnings {
        text.extend(["\n", &sentence(warning), ". ", warning.advice()]);
    }
    text
}

/// Returns a warning with a capital letter.
fn sentence(warning: &Warning) -> String {
    let text = warning.to_string();
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
