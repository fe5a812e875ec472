//! The call screen: peer picture, own preview, live statistics, controls.

use call::{Command, LocalMedia, QuestionId};
use egui::{Align2, Color32, Key, Rect, TextureId, Vec2, WidgetInfo};
use face::Background;
use types::Rate;

use super::blit::PeerPicture;
use super::theme;
use crate::cli::{Resolution, UserAction};

/// Contents of the call screen.
#[derive(Clone, Debug, Default)]
pub struct CallView {
    /// The peer picture; `None` before the first one.
    pub remote: Option<PeerPicture>,
    /// Picture of our own camera, square.
    pub preview: Option<TextureId>,
    /// Caption of the preview.
    pub preview_label: &'static str,
    /// Message in place of the peer picture.
    pub status: String,
    /// Invite link, until somebody joins.
    pub link: Option<String>,
    /// State of our microphone and camera, and our rate.
    pub media: LocalMedia,
    /// Selected size of the peer picture.
    pub resolution: Resolution,
    /// Selected background behind the peer.
    pub background: Background,
    /// Backgrounds to choose from, with their names.
    pub backgrounds: Vec<(&'static str, Background)>,
    /// Side of the peer picture as rendered, pixels.
    pub rendered_side: u32,
    /// Live statistics: names and values.
    pub figures: Vec<(&'static str, String)>,
    /// What the person here is asked.
    pub question: Option<Question>,
    /// Words to compare with the peer, once connected.
    pub check_words: Option<String>,
    /// Name of a peer that has no face to show, which may be empty.
    pub sound_only: Option<String>,
}

/// Question of a call, answered by one of two buttons.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// Whether to let in the guest of this name, which may be empty.
    Knock(QuestionId, String),
    /// Whether to show another face that the peer offers.
    OtherFace(QuestionId),
}

impl Question {
    /// Returns the text, and each button with the command that it gives.
    fn parts(&self) -> (String, [(&'static str, Command); 2]) {
        match *self {
            Self::Knock(question, ref name) => {
                let name = if name.is_empty() { "Somebody" } else { name };
                let admit = |lets_in| Command::Admit { question, lets_in };
                let choices = [("Let in", admit(true)), ("Turn away", admit(false))];
                (format!("{name} asks to join"), choices)
            }
            Self::OtherFace(question) => {
                let accept = |accepts| Command::AcceptFace { question, accepts };
                let text = "Your peer offers another face, perhaps of another person".to_owned();
                (text, [("Show it", accept(true)), ("Keep this one", accept(false))])
            }
        }
    }
}

/// Width of the panel beside the peer picture, points.
const FIGURES_WIDTH: f32 = 220.0;
/// Width of a value, points; longer ones, such as adapter names, wrap.
const VALUE_WIDTH: f32 = 110.0;

/// Shows the screen. Returns the user's actions, and the side of the area for the peer picture in
/// physical pixels.
pub fn show(ui: &mut egui::Ui, view: &CallView) -> (Vec<UserAction>, u32) {
    let mut actions = shortcuts(ui, view);
    egui::Panel::bottom("controls").exact_size(58.0).show(ui, |ui| {
        ui.horizontal_centered(|ui| controls(ui, view, &mut actions));
    });
    egui::Panel::right("figures").exact_size(FIGURES_WIDTH).resizable(false).show(ui, |ui| {
        ui.add_space(8.0);
        figures(ui, view, &mut actions);
    });
    if let Some(question) = &view.question {
        egui::Panel::top("question").show(ui, |ui| ask(ui, question, &mut actions));
    }
    let side = egui::CentralPanel::default().show(ui, |ui| stage(ui, view, &mut actions)).inner;
    (actions, (side * ui.ctx().pixels_per_point()).round() as u32)
}

fn shortcuts(ui: &egui::Ui, view: &CallView) -> Vec<UserAction> {
    if ui.ctx().egui_wants_keyboard_input() {
        return Vec::new();
    }
    ui.input(|input| {
        [
            (Key::M, toggle_mute(view)),
            (Key::V, toggle_camera(view)),
            (Key::Escape, UserAction::Call(Command::HangUp)),
        ]
        .into_iter()
        .filter(|(key, _)| input.key_pressed(*key))
        .map(|(_, action)| action)
        .collect()
    })
}

fn toggle_mute(view: &CallView) -> UserAction {
    UserAction::Call(Command::SetMuted(!view.media.muted))
}

fn toggle_camera(view: &CallView) -> UserAction {
    UserAction::Call(Command::SetCameraOn(!view.media.camera_on))
}

fn controls(ui: &mut egui::Ui, view: &CallView, actions: &mut Vec<UserAction>) {
    let mute = if view.media.muted { "Unmute" } else { "Mute" };
    if ui.selectable_label(view.media.muted, mute).on_hover_text("M").clicked() {
        actions.push(toggle_mute(view));
    }
    let camera = if view.media.camera_on { "Camera off" } else { "Camera on" };
    if ui.selectable_label(!view.media.camera_on, camera).on_hover_text("V").clicked() {
        actions.push(toggle_camera(view));
    }
    if !view.media.shows_face && ui.button("Show my face").clicked() {
        actions.push(UserAction::Call(Command::ShowFace(true)));
    }
    ui.separator();
    ui.label("Resolution")
        .on_hover_text("Size of the picture you see; nothing changes for your peer");
    for choice in Resolution::CHOICES {
        if ui.selectable_label(view.resolution == choice, choice.to_string()).clicked() {
            actions.push(UserAction::Resolution(choice));
        }
    }
    ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
        let text = egui::RichText::new("Hang up").color(Color32::WHITE).strong();
        if ui.add(egui::Button::new(text).fill(theme::DANGER)).on_hover_text("Esc").clicked() {
            actions.push(UserAction::Call(Command::HangUp));
        }
    });
}

fn ask(ui: &mut egui::Ui, question: &Question, actions: &mut Vec<UserAction>) {
    let (text, choices) = question.parts();
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        ui.label(egui::RichText::new(text).size(18.0));
        for (label, command) in choices {
            if ui.button(label).clicked() {
                actions.push(UserAction::Call(command));
            }
        }
    });
    ui.add_space(8.0);
}

fn figures(ui: &mut egui::Ui, view: &CallView, actions: &mut Vec<UserAction>) {
    ui.label(egui::RichText::new("This call").strong());
    if let Some(words) = &view.check_words {
        ui.label(egui::RichText::new(words).monospace()).on_hover_text(
            "Read these words to each other: if they differ, somebody may be in between",
        );
    }
    let grid = egui::Grid::new("figures-grid").num_columns(2).spacing([12.0, 6.0]);
    grid.max_col_width(VALUE_WIDTH).show(ui, |ui| {
        for (name, value) in &view.figures {
            ui.label(egui::RichText::new(*name).weak());
            ui.label(egui::RichText::new(value).monospace());
            ui.end_row();
        }
    });
    ui.add_space(6.0);
    ui.label("Send").on_hover_text("Less data, or more detail and less delay");
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().button_padding.x = 10.0;
        ui.spacing_mut().item_spacing.x = 4.0;
        for choice in Rate::ALL {
            if ui.selectable_label(view.media.rate == choice, choice.to_string()).clicked() {
                actions.push(UserAction::Call(Command::SetRate(choice)));
            }
        }
    });
    ui.add_space(6.0);
    ui.label("Background")
        .on_hover_text("Behind your peer, as you see them; nothing changes for your peer");
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().button_padding.x = 10.0;
        ui.spacing_mut().item_spacing.x = 4.0;
        for (name, choice) in &view.backgrounds {
            if ui.selectable_label(view.background == *choice, *name).clicked() {
                actions.push(UserAction::Background(choice.clone()));
            }
        }
    });
    if let Some(preview) = view.preview {
        ui.with_layout(egui::Layout::bottom_up(egui::Align::Center), |ui| {
            ui.add_space(8.0);
            let size = Vec2::splat(ui.available_width().min(176.0));
            let image = egui::Image::new((preview, size)).corner_radius(10);
            ui.add(image.alt_text(view.preview_label));
            ui.label(egui::RichText::new(view.preview_label).weak());
        });
    }
}

/// Shows the peer picture as large as possible, or the status. Returns the side of its area,
/// points.
fn stage(ui: &mut egui::Ui, view: &CallView, actions: &mut Vec<UserAction>) -> f32 {
    let side = ui.available_size().min_elem().max(1.0);
    let Some(remote) = &view.remote else {
        if let Some(name) = &view.sound_only {
            placeholder(ui, side, name, &view.status);
            return side;
        }
        ui.vertical_centered(|ui| {
            ui.add_space(side * 0.3);
            ui.spinner();
            ui.label(egui::RichText::new(&view.status).size(18.0));
            if let Some(link) = &view.link {
                ui.add_space(10.0);
                ui.label("Send this link to the person you want to call:");
                ui.label(egui::RichText::new(link).monospace().small());
                if ui.add(theme::primary("Copy the link")).clicked() {
                    actions.push(UserAction::CopyLink);
                }
            }
        });
        return side;
    };
    let place = Rect::from_center_size(ui.available_rect_before_wrap().center(), Vec2::splat(side));
    let response = ui.allocate_rect(place, egui::Sense::hover());
    response
        .widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, "The peer's face, rendered"));
    ui.painter().add(remote.callback(place));
    // Rendered faces are always marked as synthetic.
    let badge = format!("synthetic · {} px", view.rendered_side);
    let at = place.left_top() + Vec2::splat(14.0);
    let font = egui::FontId::proportional(13.0);
    let galley = ui.painter().layout_no_wrap(badge, font, Color32::from_white_alpha(220));
    let text = Align2::LEFT_TOP.anchor_size(at, galley.size());
    ui.painter().rect_filled(text.expand2(egui::vec2(8.0, 4.0)), 8, Color32::from_black_alpha(120));
    ui.painter().galley(text.min, galley, Color32::WHITE);
    side
}

/// Shows a peer that is heard only: a disk with the first letter of its name, and its name.
fn placeholder(ui: &mut egui::Ui, side: f32, name: &str, status: &str) {
    let name = if name.is_empty() { "Your peer" } else { name };
    ui.vertical_centered(|ui| {
        ui.add_space(side * 0.25);
        let size = Vec2::splat((side * 0.3).max(64.0));
        let (place, _) = ui.allocate_exact_size(size, egui::Sense::hover());
        let fill = ui.visuals().widgets.inactive.bg_fill;
        ui.painter().circle_filled(place.center(), size.x / 2.0, fill);
        let initial: String = name.chars().take(1).flat_map(char::to_uppercase).collect();
        let font = egui::FontId::proportional(size.x * 0.5);
        let color = ui.visuals().text_color();
        ui.painter().text(place.center(), Align2::CENTER_CENTER, initial, font, color);
        ui.add_space(16.0);
        ui.label(egui::RichText::new(name).size(24.0));
        ui.label(egui::RichText::new("sound only").weak());
        if status != "Connected" {
            ui.label(egui::RichText::new(status).size(18.0));
        }
    });
}
