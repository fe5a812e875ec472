//! Display of the peer picture by a pipeline of its own.
//!
//! egui could draw it as an image, but its general shader would take longer than rendering the face
//! if the window is drawn by a software adapter.

use egui_wgpu::{CallbackResources, CallbackTrait, ScreenDescriptor};

/// Radius of the rounded corners, points.
const RADIUS: f32 = 12.0;

/// Holds the newest peer picture for display.
pub(super) struct Blit {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::RenderPipeline,
    sampler: wgpu::Sampler,
    radius: wgpu::Buffer,
    /// Texture for pictures of the CPU renderer, with its side in pixels.
    copy: Option<(wgpu::Texture, u32)>,
    /// Buffer for converting pixels to the four bytes of the texture.
    rgba: Vec<u8>,
    shown: Option<PeerPicture>,
}

/// Peer picture as the window displays it.
#[derive(Clone, Debug)]
pub struct PeerPicture {
    pipeline: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
    radius: wgpu::Buffer,
}

impl Blit {
    pub(super) fn new(state: &egui_wgpu::RenderState) -> Self {
        let (device, queue) = (state.device.clone(), state.queue.clone());
        let format = state.target_format;
        let module = device.create_shader_module(wgpu::include_wgsl!("blit.wgsl"));
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("blit"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState {
                topology: wgpu::PrimitiveTopology::TriangleStrip,
                ..wgpu::PrimitiveState::default()
            },
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("pixel"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[("is_encoded", f64::from(u8::from(format.is_srgb())))],
                    ..wgpu::PipelineCompilationOptions::default()
                },
                targets: &[Some(wgpu::ColorTargetState {
                    format,
                    blend: Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING),
                    write_mask: wgpu::ColorWrites::ALL,
                })],
            }),
            multiview_mask: None,
            cache: None,
        });
        let sampler = device.create_sampler(&wgpu::SamplerDescriptor {
            label: Some("blit"),
            mag_filter: wgpu::FilterMode::Linear,
            min_filter: wgpu::FilterMode::Linear,
            ..wgpu::SamplerDescriptor::default()
        });
        let radius = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("radius"),
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let (copy, rgba, shown) = (None, Vec::new(), None);
        Self { device, queue, pipeline, sampler, radius, copy, rgba, shown }
    }

    /// Displays a texture of the same device.
    pub(super) fn show(&mut self, view: &wgpu::TextureView) {
        let bindings = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("blit"),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::TextureView(view),
                },
                wgpu::BindGroupEntry {
                    binding: 1,
                    resource: wgpu::BindingResource::Sampler(&self.sampler),
                },
                wgpu::BindGroupEntry { binding: 2, resource: self.radius.as_entire_binding() },
            ],
        });
        let (pipeline, radius) = (self.pipeline.clone(), self.radius.clone());
        self.shown = Some(PeerPicture { pipeline, bindings, radius });
    }

    /// Displays sRGB bytes, `[side, side, 3]`.
    pub(super) fn show_pixels(&mut self, side: u32, rgb: &[u8]) {
        let size = wgpu::Extent3d { width: side, height: side, depth_or_array_layers: 1 };
        if self.copy.as_ref().is_none_or(|(_, had)| *had != side) {
            let texture = self.device.create_texture(&wgpu::TextureDescriptor {
                label: Some("peer picture"),
                size,
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            });
            self.show(&texture.create_view(&wgpu::TextureViewDescriptor::default()));
            self.copy = Some((texture, side));
        }
        let Some((texture, _)) = &self.copy else { return };
        self.rgba.clear();
        self.rgba.extend(rgb.as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]));
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(4 * side),
            rows_per_image: None,
        };
        self.queue.write_texture(texture.as_image_copy(), &self.rgba, layout, size);
    }

    /// Returns the picture to display; `None` before the first one.
    pub(super) fn picture(&self) -> Option<&PeerPicture> {
        self.shown.as_ref()
    }
}

impl PeerPicture {
    /// Returns the callback that draws it into the square `rect`.
    pub(super) fn callback(&self, rect: egui::Rect) -> egui::PaintCallback {
        egui_wgpu::Callback::new_paint_callback(rect, self.clone())
    }
}

impl CallbackTrait for PeerPicture {
    fn prepare(
        &self,
        _: &wgpu::Device,
        queue: &wgpu::Queue,
        screen: &ScreenDescriptor,
        _: &mut wgpu::CommandEncoder,
        _: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        let radius = (RADIUS * screen.pixels_per_point).to_le_bytes();
        queue.write_buffer(&self.radius, 0, &radius);
        Vec::new()
    }

    fn paint(
        &self,
        _: egui::PaintCallbackInfo,
        pass: &mut wgpu::RenderPass<'static>,
        _: &CallbackResources,
    ) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.draw(0..4, 0..1);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gpu::Gpu;
    use egui_kittest::wgpu::{create_render_state, default_wgpu_setup};

    /// Creates the graphics of a window without a window; `None` if there is no adapter.
    pub(crate) fn window() -> Option<egui_wgpu::RenderState> {
        if Gpu::list().is_empty() {
            ::tests::gpu::skip("there is no graphics adapter");
            return None;
        }
        Some(create_render_state(default_wgpu_setup(), egui_wgpu::RendererOptions::default()))
    }

    /// Draws the picture into a window of `side` by `side` pixels that was cleared to red and returns
    /// its sRGB pixels.
    pub(crate) fn screen(
        state: &egui_wgpu::RenderState,
        picture: &PeerPicture,
        side: u32,
    ) -> Vec<[u8; 3]> {
        assert_eq!(side % 64, 0, "rows are multiples of 256 bytes");
        let (device, queue) = (&state.device, &state.queue);
        let size = wgpu::Extent3d { width: side, height: side, depth_or_array_layers: 1 };
        let target = device.create_texture(&wgpu::TextureDescriptor {
            label: None,
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: state.target_format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let bytes = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: u64::from(4 * side * side),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let resources = CallbackResources::default();
        let at_one = ScreenDescriptor { size_in_pixels: [side; 2], pixels_per_point: 1.0 };
        picture.prepare(device, queue, &at_one, &mut encoder, &mut CallbackResources::default());
        {
            let view = target.create_view(&wgpu::TextureViewDescriptor::default());
            let attachment = wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::RED),
                    store: wgpu::StoreOp::Store,
                },
            };
            let mut pass = encoder
                .begin_render_pass(&wgpu::RenderPassDescriptor {
                    color_attachments: &[Some(attachment)],
                    ..wgpu::RenderPassDescriptor::default()
                })
                .forget_lifetime();
            let rect = egui::Rect::from_min_size(egui::Pos2::ZERO, egui::Vec2::splat(side as f32));
            let info = egui::PaintCallbackInfo {
                viewport: rect,
                clip_rect: rect,
                pixels_per_point: 1.0,
                screen_size_px: [side; 2],
            };
            picture.paint(info, &mut pass, &resources);
        }
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(4 * side),
            rows_per_image: None,
        };
        let copy = wgpu::TexelCopyBufferInfo { buffer: &bytes, layout };
        encoder.copy_texture_to_buffer(target.as_image_copy(), copy, size);
        queue.submit([encoder.finish()]);
        bytes.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let mapped = bytes.get_mapped_range(..).unwrap();
        mapped.as_chunks::<4>().0.iter().map(|[r, g, b, _]| [*r, *g, *b]).collect()
    }

    #[test]
    fn a_picture_fills_its_square_except_the_corners() {
        let Some(state) = window() else { return };
        let mut blit = Blit::new(&state);
        assert!(blit.picture().is_none());
        for (side, level) in [(32, 80), (64, 200), (64, 30)] {
            blit.show_pixels(side, &vec![level; (side * side * 3) as usize]);
            let screen = screen(&state, blit.picture().unwrap(), 64);
            for corner in [0, 63, 63 * 64, 64 * 64 - 1] {
                assert_eq!(screen[corner], [255, 0, 0], "a corner stays clear");
            }
            for inside in [32, 32 * 64, 32 * 64 + 32, 63 * 64 + 32, 4 * 64 + 4] {
                assert_eq!(screen[inside], [level; 3], "pixel {inside} at {side} px");
            }
        }
    }

    #[test]
    fn a_picture_is_not_mirrored_or_flipped() {
        let Some(state) = window() else { return };
        let mut blit = Blit::new(&state);
        // Brightness increases to the right and downward.
        let rgb: Vec<u8> =
            (0..64).flat_map(|y| (0..64).map(move |x| [2 * x, 2 * y, 9])).flatten().collect();
        blit.show_pixels(64, &rgb);
        let screen = screen(&state, blit.picture().unwrap(), 64);
        for (x, y) in [(20_u8, 40_u8), (40, 20), (50, 32)] {
            assert_eq!(screen[usize::from(y) * 64 + usize::from(x)], [2 * x, 2 * y, 9]);
        }
    }
}
