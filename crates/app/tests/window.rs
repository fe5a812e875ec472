//! The window's screens, operated as a user would, without a window.

use app::{
    Background, CallView, Home, HomeAction, Question, Resolution, UserAction, apply_theme,
    show_call, show_home,
};
use call::{Command, LocalMedia, QuestionId};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use types::Rate;

#[test]
fn a_pasted_link_is_joined() {
    let mut state =
        (Home { link: " feathercall://host/room#secret ".into(), ..Home::default() }, None);
    let mut harness = Harness::new_ui_state(
        |ui, (home, action): &mut (Home, Option<HomeAction>)| {
            *action = show_home(ui, home).or(action.take());
        },
        std::mem::take(&mut state),
    );
    harness.get_by_label("Join").click();
    harness.run();
    let want = HomeAction::Join("feathercall://host/room#secret".into());
    assert_eq!(harness.state().1, Some(want));
}

#[test]
fn nobody_is_enrolled_without_consent() {
    let home = Home { name: "Ada".into(), ..Home::default() };
    let mut harness = Harness::builder().with_size([700.0, 900.0]).build_ui_state(
        |ui, (home, action): &mut (Home, Option<HomeAction>)| {
            *action = show_home(ui, home).or(action.take());
        },
        (home, None),
    );
    harness.get_by_label("Enroll").click();
    harness.run();
    assert_eq!(harness.state().1, None);
    harness.get_by_label_contains("This is my own face").click();
    harness.run();
    harness.get_by_label("Enroll").click();
    harness.run();
    let want = HomeAction::Enroll { name: "Ada".into(), clip: None };
    assert_eq!(harness.state().1, Some(want));
}

fn backgrounds() -> Vec<(&'static str, Background)> {
    let color = Background::Color([1, 2, 3]);
    let names = ["own", "blurred", "plain", "chosen"];
    names.into_iter().zip([Background::Own, Background::Blurred, color.clone(), color]).collect()
}

#[test]
fn every_control_of_a_call_has_its_effect() {
    for (label, want) in [
        ("Mute", UserAction::Call(Command::SetMuted(true))),
        ("Camera off", UserAction::Call(Command::SetCameraOn(false))),
        ("Show my face", UserAction::Call(Command::ShowFace(true))),
        ("512", UserAction::Resolution(Resolution::Side(512))),
        ("low", UserAction::Call(Command::SetRate(Rate::Low))),
        ("own", UserAction::Background(Background::Own)),
        ("blurred", UserAction::Background(Background::Blurred)),
        ("Hang up", UserAction::Call(Command::HangUp)),
        ("Copy the link", UserAction::CopyLink),
    ] {
        let view = CallView {
            status: "Waiting for your peer".into(),
            link: Some("feathercall://host/room#secret".into()),
            figures: vec![("down, wire", "5.1 kbit/s".into())],
            backgrounds: backgrounds(),
            media: LocalMedia { camera_on: true, ..LocalMedia::default() },
            ..CallView::default()
        };
        let mut harness = Harness::builder().with_size([900.0, 700.0]).build_ui_state(
            |ui, (view, all): &mut (CallView, Vec<UserAction>)| all.extend(show_call(ui, view).0),
            (view, Vec::new()),
        );
        harness.run_steps(2);
        harness.get_by_label(label).click();
        harness.run_steps(2);
        assert_eq!(harness.state().1, [want], "{label}");
    }
}

#[test]
fn a_question_shows_who_asks_and_each_button_answers() {
    let id = QuestionId(3);
    let knock = || Question::Knock(id, "Ada".into());
    let admit = |lets_in| Command::Admit { question: id, lets_in };
    let accept = |accepts| Command::AcceptFace { question: id, accepts };
    for (question, text, label, want) in [
        (knock(), "Ada asks to join", "Let in", admit(true)),
        (knock(), "Ada asks to join", "Turn away", admit(false)),
        (Question::Knock(id, String::new()), "Somebody asks", "Let in", admit(true)),
        (Question::OtherFace(id), "another face", "Show it", accept(true)),
        (Question::OtherFace(id), "another face", "Keep this one", accept(false)),
    ] {
        let view = CallView {
            question: Some(question),
            check_words: Some("cry athlete stay wage".into()),
            ..CallView::default()
        };
        let mut harness = Harness::builder().with_size([900.0, 700.0]).build_ui_state(
            |ui, (view, all): &mut (CallView, Vec<UserAction>)| all.extend(show_call(ui, view).0),
            (view, Vec::new()),
        );
        harness.run_steps(2);
        harness.get_by_label_contains(text);
        harness.get_by_label("cry athlete stay wage");
        harness.get_by_label(label).click();
        harness.run_steps(2);
        assert_eq!(harness.state().1, [UserAction::Call(want)], "{label}");
    }
}

#[test]
fn a_peer_without_a_face_is_shown_by_its_name() {
    for (name, shown) in [("ada", "ada"), ("", "Your peer")] {
        let view = CallView {
            status: "Connected".into(),
            sound_only: Some(name.into()),
            ..CallView::default()
        };
        let mut harness = Harness::builder().with_size([900.0, 700.0]).build_ui_state(
            |ui, (view, all): &mut (CallView, Vec<UserAction>)| all.extend(show_call(ui, view).0),
            (view, Vec::new()),
        );
        harness.run_steps(2);
        harness.get_by_label(shown);
        harness.get_by_label("sound only");
    }
}

#[test]
fn the_area_of_the_peer_picture_is_measured_in_physical_pixels() {
    let area_px = |pixels_per_point| {
        let mut harness = Harness::builder()
            .with_size([900.0, 700.0])
            .with_pixels_per_point(pixels_per_point)
            .build_ui_state(
                |ui, place: &mut u32| *place = show_call(ui, &CallView::default()).1,
                0,
            );
        harness.run_steps(2);
        *harness.state()
    };
    let plain = area_px(1.0);
    // The panels beside and below the picture leave about 640 of 700 points.
    assert!((560..=660).contains(&plain), "{plain}");
    for scale in [1.25_f32, 1.5, 2.0] {
        let want = plain as f32 * scale;
        let got = area_px(scale) as f32;
        // Layout is rounded to whole pixels.
        assert!((got - want).abs() <= 4.0, "{got} pixels, not {want}, at {scale}");
    }
}

#[test]
fn figures_and_choices_stay_inside_their_panel_with_long_names() {
    let view = CallView {
        figures: vec![
            ("down, wire", "16.6 kbit/s".into()),
            ("renderer", "llvmpipe (LLVM 15.0.6, 256 bits)".into()),
        ],
        backgrounds: backgrounds(),
        ..CallView::default()
    };
    let mut harness = Harness::builder().with_size([900.0, 700.0]).build_ui_state(
        |ui, view: &mut CallView| {
            show_call(ui, view);
        },
        view,
    );
    apply_theme(&harness.ctx);
    harness.run_steps(3);
    for label in
        ["This call", "down, wire", "renderer", "16.6 kbit/s", "low", "high", "own", "chosen"]
    {
        let rect = harness.get_by_label(label).rect();
        assert!(rect.left() >= 680.0 && rect.right() <= 900.0, "{label} at {rect:?}");
    }
}
