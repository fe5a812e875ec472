//! The first screen: start a call, join one, enroll a face.

use std::path::PathBuf;

use super::theme;

/// State of the home screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Home {
    /// Face files enrolled on this computer.
    pub faces: Vec<PathBuf>,
    /// Index into `faces`; `None` to call with sound only.
    pub face: Option<usize>,
    /// Names of the cameras.
    pub cameras: Vec<String>,
    /// Text of the invite link field.
    pub link: String,
    /// Path of the clip to enroll from; empty for the camera.
    pub clip: String,
    /// Name of the new face.
    pub name: String,
    /// Whether the user consented to a model of their face.
    pub consents: bool,
    /// Last error or result.
    pub message: Option<String>,
}

/// User action on the home screen.
#[derive(Clone, Debug, PartialEq)]
pub enum HomeAction {
    /// Start a call and show its link.
    StartCall,
    /// Join by this invite link.
    Join(String),
    /// Enroll a face.
    Enroll {
        /// Name of the face.
        name: String,
        /// Clip to enroll from; `None` for the camera.
        clip: Option<PathBuf>,
    },
}

/// Shows the screen and returns the user's action, if any.
pub fn show(ui: &mut egui::Ui, home: &mut Home) -> Option<HomeAction> {
    let mut action = None;
    egui::ScrollArea::vertical().show(ui, |ui| {
        ui.vertical_centered(|ui| {
            ui.set_max_width(560.0);
            ui.add_space(28.0);
            ui.label(egui::RichText::new("Feathercall").size(34.0).strong());
            ui.label(
                egui::RichText::new("A face-to-face call in the bandwidth of a phone call").weak(),
            );
            ui.add_space(12.0);
            if let Some(message) = &home.message {
                ui.colored_label(theme::DANGER, message);
            }
            theme::card().show(ui, |ui| {
                ui.vertical(|ui| {
                    ui.heading("Call");
                    face_choice(ui, home);
                    if ui.add(theme::primary("Start a call")).clicked() {
                        action = Some(HomeAction::StartCall);
                    }
                    ui.separator();
                    ui.horizontal(|ui| {
                        let label = ui.label("Invite link");
                        let edit = egui::TextEdit::singleline(&mut home.link)
                            .hint_text("feathercall://…")
                            .desired_width(ui.available_width() - 90.0);
                        let typed = ui.add(edit).labelled_by(label.id);
                        let is_entered =
                            typed.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
                        let has_link = !home.link.trim().is_empty();
                        let join = ui.add_enabled(has_link, egui::Button::new("Join"));
                        if has_link && (join.clicked() || is_entered) {
                            action = Some(HomeAction::Join(home.link.trim().to_owned()));
                        }
                    });
                });
            });
            ui.add_space(6.0);
            theme::card().show(ui, |ui| {
                ui.vertical(|ui| {
                    if let Some(asked) = enrollment(ui, home) {
                        action = Some(asked);
                    }
                });
            });
            ui.add_space(12.0);
        });
    });
    action
}

fn face_choice(ui: &mut egui::Ui, home: &mut Home) {
    let name_of = |face: Option<usize>| match face.and_then(|i| home.faces.get(i)) {
        Some(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        None => "No face: sound only".to_owned(),
    };
    let mut chosen = home.face;
    egui::ComboBox::from_label("Your face").selected_text(name_of(home.face)).show_ui(ui, |ui| {
        for face in (0..home.faces.len()).map(Some).chain([None]) {
            ui.selectable_value(&mut chosen, face, name_of(face));
        }
    });
    home.face = chosen;
    let camera = match (home.face, home.cameras.first()) {
        (None, _) => "Your peer hears you and sees no picture.".to_owned(),
        (Some(_), Some(camera)) => format!("Animated by the camera {camera}"),
        (Some(_), None) => "No camera found: connect one, or call with sound only.".to_owned(),
    };
    ui.label(egui::RichText::new(camera).weak());
}

fn enrollment(ui: &mut egui::Ui, home: &mut Home) -> Option<HomeAction> {
    ui.heading("Enroll a face");
    ui.label("Takes one minute of you, speaking and turning your head. The face stays on this computer, encrypted; during a call your peer holds a copy in memory until you hang up. Whoever holds a copy can show your face saying anything. The room behind you is part of it.");
    ui.horizontal(|ui| {
        let label = ui.label("Name");
        ui.add(egui::TextEdit::singleline(&mut home.name).desired_width(150.0))
            .labelled_by(label.id);
        let label = ui.label("Clip");
        ui.add(
            egui::TextEdit::singleline(&mut home.clip)
                .hint_text("path; leave empty for the camera")
                .desired_width(ui.available_width()),
        )
        .labelled_by(label.id);
    });
    ui.checkbox(&mut home.consents, "This is my own face, and I consent to a model of it");
    let is_ready = home.consents && !home.name.trim().is_empty();
    let button = ui.add_enabled(is_ready, egui::Button::new("Enroll"));
    button.clicked().then(|| HomeAction::Enroll {
        name: home.name.trim().to_owned(),
        clip: Some(home.clip.trim()).filter(|c| !c.is_empty()).map(PathBuf::from),
    })
}
