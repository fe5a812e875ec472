//! Colors and spacing of the window.

use egui::{Color32, CornerRadius, Margin, Stroke, Visuals};

/// Primary buttons and progress.
pub(super) const ACCENT: Color32 = Color32::from_rgb(74, 168, 140);
/// Hanging up, and errors.
pub(super) const DANGER: Color32 = Color32::from_rgb(205, 84, 78);
const INK: Color32 = Color32::from_rgb(226, 229, 232);
/// Background of the window.
pub(super) const GROUND: Color32 = Color32::from_rgb(20, 23, 27);
const RAISED: Color32 = Color32::from_rgb(31, 35, 41);

/// Sets the colors and sizes of every screen.
pub fn apply(ctx: &egui::Context) {
    ctx.set_theme(egui::Theme::Dark);
    let mut visuals = Visuals::dark();
    // The window is already cleared to this color. Filling the panels again would double the cost
    // on a software adapter.
    visuals.panel_fill = Color32::TRANSPARENT;
    visuals.window_fill = RAISED;
    visuals.extreme_bg_color = Color32::from_rgb(14, 16, 19);
    visuals.selection.bg_fill = ACCENT.gamma_multiply(0.55);
    visuals.selection.stroke = Stroke::new(1.0, Color32::WHITE);
    visuals.error_fg_color = DANGER;
    visuals.override_text_color = Some(INK);
    for widget in [
        &mut visuals.widgets.inactive,
        &mut visuals.widgets.hovered,
        &mut visuals.widgets.active,
        &mut visuals.widgets.open,
    ] {
        widget.corner_radius = CornerRadius::same(8);
    }
    ctx.set_visuals(visuals);
    ctx.all_styles_mut(|style| {
        style.spacing.item_spacing = egui::vec2(10.0, 10.0);
        style.spacing.button_padding = egui::vec2(14.0, 8.0);
        style.text_styles.insert(egui::TextStyle::Body, egui::FontId::proportional(15.0));
        style.text_styles.insert(egui::TextStyle::Button, egui::FontId::proportional(15.0));
    });
}

/// Returns a raised surface for a group of controls.
pub(super) fn card() -> egui::Frame {
    egui::Frame::new().fill(RAISED).corner_radius(12).inner_margin(Margin::same(18))
}

/// Returns the primary button of a screen.
pub(super) fn primary(text: &str) -> egui::Button<'_> {
    egui::Button::new(egui::RichText::new(text).color(Color32::WHITE).strong())
        .fill(ACCENT.gamma_multiply(0.8))
        .min_size(egui::vec2(150.0, 38.0))
}
