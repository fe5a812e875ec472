//! Traces the rays of an image tile by tile: [`face::FrameField::render_ray`] in lanes.

use face::{
    BINS, CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, FaceModel, FoldedField, FrameInputs, LOG_DENSITY,
    LOGIT_SCALE, MAX_SAMPLES, MEAN_FLOOR, MIN_MASS, Ray, SHADE_INPUTS, Sizes, exp, sigmoid,
};

use super::lanes::{LANES, LaneTaps, Lanes, cells, each, fused, larger, smaller};
use super::network::{BATCH, Network, sum_of_eight};
use super::occupancy::Occupancy;

/// Rows of a tile, which is [`LANES`] pixels wide. Empty space is skipped for a tile as a whole.
pub(super) const TILE_ROWS: usize = 4;
/// A march ends when all of its rays have a smaller transmittance than this.
const OPAQUE: f32 = 0.0001;
/// A layer whose visible share is smaller than this is not read: a quarter of a level of 8-bit
/// color.
const MIN_VISIBLE: f32 = 0.001;

/// Returns the largest distance, canonical units, between a ray of a tile and the central ray of
/// the tile where they pass the head, plus a margin for the step of the search.
pub(super) fn reach(sizes: &Sizes, inputs: &FrameInputs, side: u32) -> f32 {
    let (mut to_box, mut diagonal) = (0.0_f32, 0.0_f32);
    for c in 0..3 {
        let (min, max) = (sizes.head.min[c], sizes.head.max[c]);
        to_box += (inputs.origin[c] - 0.5 * (min + max)).powi(2);
        diagonal += (max - min).powi(2);
    }
    let farthest = to_box.sqrt() + 0.5 * diagonal.sqrt();
    let across = 0.5 * ((LANES - 1) as f32).hypot((TILE_ROWS - 1) as f32);
    let steps = (0..3)
        .map(|c| (sizes.head.max[c] - sizes.head.min[c]) / (sizes.density - 1) as f32)
        .fold(f32::MAX, f32::min);
    farthest * across / (side as f32 * inputs.focal) + steps
}

/// Everything that the pixels of an image share.
pub(super) struct View<'a> {
    sizes: &'a Sizes,
    field: &'a FoldedField,
    inputs: &'a FrameInputs,
    occupancy: &'a Occupancy,
    background: &'a [[f32; 4]],
    network: Network<'a>,
    /// Weights and bias of the opacity.
    opacity: ([f32; CHANNELS], f32),
    side: usize,
    n_samples: usize,
    /// Largest downward offset of the torso's flow, sides of the image.
    flow_down: f32,
    reach: f32,
}

impl<'a> View<'a> {
    pub(super) fn new(
        model: &'a FaceModel,
        field: &'a FoldedField,
        inputs: &'a FrameInputs,
        occupancy: &'a Occupancy,
        background: &'a [[f32; 4]],
        side: u32,
        n_samples: u32,
    ) -> Self {
        let opacity = &model.params()[model.layout().opacity.clone()];
        let mut weights = [0.0; CHANNELS];
        weights.copy_from_slice(&opacity[..CHANNELS]);
        Self {
            sizes: model.sizes(),
            field,
            inputs,
            occupancy,
            background,
            network: Network::new(model, &inputs.shade_bias),
            opacity: (weights, opacity[CHANNELS]),
            side: side as usize,
            n_samples: n_samples as usize,
            flow_down: inputs.flow.iter().map(|f| f[1]).fold(f32::MIN, f32::max),
            reach: reach(model.sizes(), inputs, side),
        }
    }
}

/// [`TILE_ROWS`] rows of an image, or fewer at its end.
pub(super) struct TileRows<'a> {
    pub(super) view: &'a View<'a>,
    /// The first row.
    pub(super) top: usize,
    /// `[rows][side]`, 3 bytes a pixel.
    pub(super) rows: &'a mut [u8],
}

impl pulp::WithSimd for TileRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        // All vector instruction sets that pulp supports have fused multiply-adds.
        if S::F32_LANES > 1 { self.draw::<S, true>(simd) } else { self.draw::<S, false>(simd) }
    }
}

/// The head as eight rays see it.
struct Heads {
    /// Red, green, blue.
    rgb: [Lanes; 3],
    alpha: Lanes,
}

impl TileRows<'_> {
    #[inline(always)]
    fn draw<S: pulp::Simd, const FUSED: bool>(self, simd: S) {
        let view = self.view;
        let pixel = 1.0 / view.side as f32;
        let stride = view.side * 3;
        for left in (0..view.side).step_by(LANES) {
            let x = each(|i| (left + i) as f32 * pixel + 0.5 * pixel);
            let middle_x = (left as f32 + 0.5 * LANES as f32) * pixel;
            let middle_y = (self.top as f32 + 0.5 * TILE_ROWS as f32) * pixel;
            let near = view.find_head(middle_x, middle_y);
            let has_torso = view.may_show_torso(
                [left, left + LANES].map(|x| x as f32 * pixel),
                [self.top, self.top + TILE_ROWS].map(|y| y as f32 * pixel),
            );
            let n = LANES.min(view.side - left);
            for (row, line) in self.rows.chunks_exact_mut(stride).enumerate() {
                let y = (self.top + row) as f32 * pixel + 0.5 * pixel;
                // A `match` instead of `map`: a closure would be compiled separately, for the
                // oldest processor.
                let heads = match near {
                    Some(near) => view.trace::<S, FUSED>(simd, &x, y, near),
                    None => None,
                };
                let rgb = view.composite::<FUSED>(&x, y, heads.as_ref(), has_torso);
                let out = line[left * 3..(left + n) * 3].as_chunks_mut::<3>().0;
                for c in 0..3 {
                    let levels = levels(&rgb[c]);
                    for (out, level) in out.iter_mut().zip(levels) {
                        out[c] = level as u8;
                    }
                }
            }
        }
    }
}

/// Returns the nearest levels of 8-bit color for colors in 0..=1, clamped.
#[inline(always)]
fn levels(color: &Lanes) -> [u32; LANES] {
    /// 2^23: added to a number, it leaves the nearest integer in the lowest mantissa bits.
    const WHOLE: f32 = 8_388_608.0;
    let mut out = [0; LANES];
    for i in 0..LANES {
        out[i] = (smaller(larger(color[i] * 255.0, 0.0), 255.0) + WHOLE).to_bits() & 0xff;
    }
    out
}

/// Returns `a + (b - a) * share`.
#[inline(always)]
fn lerp<const FUSED: bool>(a: &Lanes, b: &Lanes, share: &Lanes) -> Lanes {
    each(|i| fused::<FUSED>(b[i] - a[i], share[i], a[i]))
}

impl View<'_> {
    /// Returns the distances between which the rays of the tile around an image point may hit the
    /// head, or `None` if none can.
    #[inline(always)]
    fn find_head(&self, x: f32, y: f32) -> Option<(f32, f32)> {
        // If a tile covers the whole head, searching would exclude nothing.
        let largest = (0..3).map(|c| self.sizes.head.max[c] - self.sizes.head.min[c]);
        if self.reach > largest.fold(0.0, f32::max) {
            return Some((0.0, f32::MAX));
        }
        let (ray, span) = self.span_of_tile(x, y)?;
        let (first, last) = self.occupancy.find(self.sizes, &ray, span)?;
        let half = 0.5 * self.occupancy.step();
        Some((first - half, last + half))
    }

    /// Returns the ray through the center of a tile and the distances between which any ray of the
    /// tile may be in the head box.
    #[inline(always)]
    fn span_of_tile(&self, x: f32, y: f32) -> Option<(Ray, (f32, f32))> {
        let mut wide = self.sizes.head;
        for c in 0..3 {
            wide.min[c] -= self.reach;
            wide.max[c] += self.reach;
        }
        let ray = self.inputs.ray([x, y]);
        Some((ray, ray.span(&wide)?))
    }

    /// Steps 1 to 3 of [`face::FrameField::render_ray`] between the distances `near`, or `None` if
    /// all rays miss the head.
    #[inline(always)]
    fn trace<S: pulp::Simd, const FUSED: bool>(
        &self,
        simd: S,
        x: &Lanes,
        y: f32,
        near: (f32, f32),
    ) -> Option<Heads> {
        let (sizes, inputs) = (self.sizes, self.inputs);
        let (axes, origin) = (&inputs.axes, inputs.origin);
        let v = (y - 0.5) / inputs.focal;
        let mut direction = [[0.0; LANES]; 3];
        for (c, d) in direction.iter_mut().enumerate() {
            let constant = axes[1][c] * v + axes[2][c];
            *d = each(|i| axes[0][c] * ((x[i] - 0.5) / inputs.focal) + constant);
        }
        let scale = each(|i| {
            let [a, b, c] = [direction[0][i], direction[1][i], direction[2][i]];
            1.0 / (a * a + b * b + c * c).sqrt()
        });
        for d in &mut direction {
            *d = each(|i| d[i] * scale[i]);
        }
        let (mut enter, mut leave) = ([0.0_f32; LANES], [1e9_f32; LANES]);
        for c in 0..3 {
            let (min, max) = (sizes.head.min[c] - origin[c], sizes.head.max[c] - origin[c]);
            for i in 0..LANES {
                let d = direction[c][i];
                let inverse = 1.0 / if d.abs() < 1e-6 { 1e-6 } else { d };
                let (a, b) = (min * inverse, max * inverse);
                enter[i] = larger(enter[i], smaller(a, b));
                leave[i] = smaller(leave[i], larger(a, b));
            }
        }
        // A ray that misses the box has steps of length zero and therefore no mass.
        let step = each(|i| {
            let length = leave[i] - enter[i];
            if length > 1e-4 { length * (1.0 / BINS as f32) } else { 0.0 }
        });
        let mut bins = (BINS as f32, 0.0_f32);
        for i in 0..LANES {
            if step[i] > 0.0 {
                bins.0 = bins.0.min((near.0 - enter[i]) / step[i] - 0.5);
                bins.1 = bins.1.max((near.1 - enter[i]) / step[i] + 0.5);
            }
        }
        let first = (bins.0.ceil().max(0.0) as usize).min(BINS);
        let last = (bins.1.ceil().max(0.0) as usize).min(BINS);

        let mut weights = [[0.0; LANES]; BINS];
        let (end, mass) = self.march::<FUSED>(&direction, &enter, &step, first, last, &mut weights);
        if mass.iter().all(|mass| *mass < MIN_MASS) {
            return None;
        }

        let n = self.n_samples.clamp(1, MAX_SAMPLES as usize);
        let mut places = [[first as f32; LANES]; MAX_SAMPLES as usize];
        let places = &mut places[..n];
        place_samples(&weights[first..end], &mass, places);

        let mut sums = [[0.0; CHANNELS]; LANES];
        let mut alpha = [0.0; LANES];
        let share = each(|i| mass[i] / n as f32);
        for place in places {
            let distance = each(|i| enter[i] + place[i] * step[i]);
            let mut at = [[0.0; LANES]; 3];
            for c in 0..3 {
                at[c] = each(|i| fused::<FUSED>(distance[i], direction[c][i], origin[c]));
            }
            self.sample::<FUSED>(&at, &mass, &share, &mut sums, &mut alpha);
        }

        let mut rgb = [[0.0; 3]; LANES];
        let scale = each(|i| 1.0 / (alpha[i] + MEAN_FLOOR));
        let mut rays = [[0.0; SHADE_INPUTS]; LANES];
        for (i, ray) in rays.iter_mut().enumerate() {
            for c in 0..CHANNELS {
                ray[c] = sums[i][c] * scale[i];
            }
            ray[CHANNELS] = alpha[i];
            ray[CHANNELS + 1] = direction[0][i];
            ray[CHANNELS + 2] = direction[1][i];
        }
        let batches = rays.as_chunks::<BATCH>().0.iter().zip(rgb.as_chunks_mut::<BATCH>().0);
        for ((rays, rgb), mass) in batches.zip(mass.as_chunks::<BATCH>().0) {
            if mass.iter().any(|mass| *mass >= MIN_MASS) {
                *rgb = self.network.shade(simd, rays);
            }
        }
        let mut colors = [[0.0; LANES]; 3];
        for c in 0..3 {
            colors[c] = each(|i| sigmoid(rgb[i][c]));
        }
        Some(Heads { rgb: colors, alpha })
    }

    /// Writes the weights of the bins `first..last`. Returns the bin at which all rays have ended,
    /// and the mass of each.
    #[inline(always)]
    fn march<const FUSED: bool>(
        &self,
        direction: &[Lanes; 3],
        enter: &Lanes,
        step: &Lanes,
        first: usize,
        last: usize,
        weights: &mut [Lanes; BINS],
    ) -> (usize, Lanes) {
        let (head, n) = (&self.sizes.head, self.sizes.density);
        let density = &self.field.density[..];
        let top = (n - 1) as f32;
        let mut start = [[0.0; LANES]; 3];
        let mut delta = [[0.0; LANES]; 3];
        for c in 0..3 {
            let scale = top / (head.max[c] - head.min[c]);
            let d = &direction[c];
            let origin = self.inputs.origin[c] - head.min[c];
            start[c] = each(|i| (origin + d[i] * (enter[i] + 0.5 * step[i])) * scale);
            delta[c] = each(|i| d[i] * step[i] * scale);
        }
        let mut mass = [0.0; LANES];
        let mut light = [1.0_f32; LANES];
        for (bin, weight) in weights.iter_mut().enumerate().take(last).skip(first) {
            let bin_at = bin as f32;
            let (x, fx) = cells(&each(|i| fused::<FUSED>(bin_at, delta[0][i], start[0][i])), n);
            let (y, fy) = cells(&each(|i| fused::<FUSED>(bin_at, delta[1][i], start[1][i])), n);
            let (z, fz) = cells(&each(|i| fused::<FUSED>(bin_at, delta[2][i], start[2][i])), n);
            let mut at = [0; LANES];
            for i in 0..LANES {
                at[i] = (z[i] * n as u32 + y[i]) * n as u32 + x[i];
            }
            let mut corners = [[0.0; LANES]; 8];
            for i in 0..LANES {
                let at = at[i] as usize;
                let near = &density[at..at + n + 2];
                let far = &density[at + n * n..at + n * n + n + 2];
                corners[0][i] = near[0];
                corners[1][i] = near[1];
                corners[2][i] = near[n];
                corners[3][i] = near[n + 1];
                corners[4][i] = far[0];
                corners[5][i] = far[1];
                corners[6][i] = far[n];
                corners[7][i] = far[n + 1];
            }
            let [c0, c1, c2, c3, c4, c5, c6, c7] = &corners;
            let l0 = lerp::<FUSED>(c0, c1, &fx);
            let l1 = lerp::<FUSED>(c2, c3, &fx);
            let l2 = lerp::<FUSED>(c4, c5, &fx);
            let l3 = lerp::<FUSED>(c6, c7, &fx);
            let near = lerp::<FUSED>(&l0, &l1, &fy);
            let far = lerp::<FUSED>(&l2, &l3, &fy);
            let logit = lerp::<FUSED>(&near, &far, &fz);
            let log =
                each(|i| smaller(larger(LOGIT_SCALE * logit[i], LOG_DENSITY.0), LOG_DENSITY.1));
            let sigma = each(|i| exp(log[i]));
            let left = each(|i| exp(-sigma[i] * step[i]));
            *weight = each(|i| light[i] * (1.0 - left[i]));
            light = each(|i| light[i] * left[i]);
            mass = each(|i| mass[i] + weight[i]);
            if light.iter().all(|light| *light < OPAQUE) {
                return (bin + 1, mass);
            }
        }
        (last, mass)
    }

    /// Adds one sample of each ray to its features and its alpha.
    #[inline(always)]
    fn sample<const FUSED: bool>(
        &self,
        at: &[Lanes; 3],
        mass: &Lanes,
        share: &Lanes,
        sums: &mut [[f32; CHANNELS]; LANES],
        alpha: &mut Lanes,
    ) {
        let (sizes, field) = (self.sizes, self.field);
        let [x, y, z] = at;
        let mut face_at = [[0.0; LANES]; 2];
        for c in 0..2 {
            let scale = (sizes.warp - 1) as f32 / (sizes.face.max[c] - sizes.face.min[c]);
            face_at[c] = each(|i| (at[c][i] - sizes.face.min[c]) * scale);
        }
        let taps = LaneTaps::new(&face_at[0], &face_at[1], sizes.warp, sizes.warp);
        let mut warp = [[0.0; 2]; LANES];
        for (i, offset) in warp.iter_mut().enumerate() {
            *offset = taps.read::<FUSED, 2>(&field.warp, i);
        }
        let scale = |c: usize| 1.0 / (sizes.head.max[c] - sizes.head.min[c]);
        let (scale_x, scale_y, scale_z) = (scale(0), scale(1), scale(2));
        let u = each(|i| (x[i] + warp[i][0] - sizes.head.min[0]) * scale_x);
        let v = each(|i| (y[i] + warp[i][1] - sizes.head.min[1]) * scale_y);
        let w = each(|i| (z[i] - sizes.head.min[2]) * scale_z);
        let to = |p: &Lanes, n: usize| each(|i| p[i] * (n - 1) as f32);
        let (n_xy, n_z) = (sizes.plane_xy, sizes.plane_z);
        let xy = LaneTaps::new(&to(&u, n_xy), &to(&v, n_xy), n_xy, n_xy);
        let xz = LaneTaps::new(&to(&u, n_z), &to(&w, n_z), n_z, n_z);
        let yz = LaneTaps::new(&to(&v, n_z), &to(&w, n_z), n_z, n_z);
        let mut features = [[0.0; CHANNELS]; LANES];
        let mut logits = [0.0; LANES];
        for i in 0..LANES {
            if mass[i] < MIN_MASS {
                continue;
            }
            let a = xy.read::<FUSED, CHANNELS>(&field.xy, i);
            let b = xz.read::<FUSED, CHANNELS>(&field.xz, i);
            let c = yz.read::<FUSED, CHANNELS>(&field.yz, i);
            let mut products = [0.0; CHANNELS];
            for k in 0..CHANNELS {
                features[i][k] = a[k] * b[k] * c[k];
                products[k] = features[i][k] * self.opacity.0[k];
            }
            logits[i] = sum_of_eight(&products);
        }
        let a = each(|i| {
            let opacity = sigmoid(LOGIT_SCALE * logits[i] + self.opacity.1) * share[i];
            if mass[i] < MIN_MASS { 0.0 } else { opacity }
        });
        for i in 0..LANES {
            alpha[i] += a[i];
            for k in 0..CHANNELS {
                sums[i][k] = fused::<FUSED>(a[i], features[i][k], sums[i][k]);
            }
        }
    }

    /// Returns whether the torso can be visible between the columns `x` and the rows `y`, image
    /// space.
    #[inline(always)]
    fn may_show_torso(&self, x: [f32; 2], y: [f32; 2]) -> bool {
        let [_, _, _, c, d, ty] = self.inputs.torso_affine;
        let lowest = x
            .iter()
            .flat_map(|x| y.iter().map(move |y| y + c * (x - 0.5) + d * (y - 0.5)))
            .fold(f32::MIN, f32::max);
        lowest + ty + self.flow_down > self.sizes.torso.min[1]
    }

    /// Step 4 of [`face::FrameField::render_ray`].
    #[inline(always)]
    fn composite<const FUSED: bool>(
        &self,
        x: &Lanes,
        y: f32,
        heads: Option<&Heads>,
        has_torso: bool,
    ) -> [Lanes; 3] {
        let head_alpha = heads.map_or([0.0; LANES], |heads| heads.alpha);
        let mut backdrop = [[0.0; 4]; LANES];
        if head_alpha.iter().any(|alpha| *alpha < 1.0 - MIN_VISIBLE) {
            let mut torso = [[0.0; 4]; LANES];
            let mut torso_alpha = [0.0; LANES];
            if has_torso {
                self.read_torso::<FUSED>(x, y, &mut torso, &mut torso_alpha);
            }
            if torso_alpha.iter().any(|alpha| *alpha < 1.0 - MIN_VISIBLE) {
                self.read_background::<FUSED>(x, y, &mut backdrop);
            }
            for i in 0..LANES {
                for c in 0..4 {
                    backdrop[i][c] += (torso[i][c] - backdrop[i][c]) * torso_alpha[i];
                }
            }
        }
        let mut rgb = [[0.0; LANES]; 3];
        for c in 0..3 {
            rgb[c] = each(|i| backdrop[i][c]);
            if let Some(heads) = heads {
                rgb[c] = each(|i| {
                    let alpha = heads.alpha[i];
                    alpha * heads.rgb[c][i] + (1.0 - alpha) * rgb[c][i]
                });
            }
        }
        rgb
    }

    #[inline(always)]
    fn read_torso<const FUSED: bool>(
        &self,
        x: &Lanes,
        y: f32,
        torso: &mut [[f32; 4]; LANES],
        alpha: &mut Lanes,
    ) {
        let (sizes, inputs) = (self.sizes, self.inputs);
        let bounds = &sizes.torso;
        let scale = [1.0 / (bounds.max[0] - bounds.min[0]), 1.0 / (bounds.max[1] - bounds.min[1])];
        let (flow_x, flow_y) = ((FLOW_WIDTH - 1) as f32, (FLOW_HEIGHT - 1) as f32);
        let flow = LaneTaps::new(
            &each(|i| (x[i] - bounds.min[0]) * scale[0] * flow_x),
            &[(y - bounds.min[1]) * scale[1] * flow_y; LANES],
            FLOW_WIDTH,
            FLOW_HEIGHT,
        );
        let [a, b, tx, c, d, ty] = inputs.torso_affine;
        let mut moved = [[0.0; 2]; LANES];
        let (width, height) = ((sizes.torso_width - 1) as f32, (sizes.torso_height - 1) as f32);
        for (i, moved) in moved.iter_mut().enumerate() {
            *moved = flow.read::<FUSED, 2>(&inputs.flow, i);
        }
        let mut at = [[0.0; LANES]; 2];
        let dy = y - 0.5;
        for i in 0..LANES {
            let dx = x[i] - 0.5;
            let qx = x[i] + a * dx + b * dy + tx + moved[i][0];
            let qy = y + c * dx + d * dy + ty + moved[i][1];
            at[0][i] = (qx - bounds.min[0]) * scale[0] * width;
            at[1][i] = (qy - bounds.min[1]) * scale[1] * height;
        }
        let taps = LaneTaps::new(&at[0], &at[1], sizes.torso_width, sizes.torso_height);
        for (i, torso) in torso.iter_mut().enumerate() {
            *torso = taps.read::<FUSED, 4>(&self.field.torso, i);
        }
        *alpha = each(|i| sigmoid(torso[i][3]) * at[1][i].clamp(0.0, 1.0));
    }

    #[inline(always)]
    fn read_background<const FUSED: bool>(&self, x: &Lanes, y: f32, out: &mut [[f32; 4]; LANES]) {
        let n = self.sizes.background;
        let [dx, dy] = self.inputs.background_shift;
        let taps = LaneTaps::new(
            &each(|i| (x[i] + dx) * n as f32 - 0.5),
            &[(y + dy) * n as f32 - 0.5; LANES],
            n,
            n,
        );
        for (i, out) in out.iter_mut().enumerate() {
            *out = taps.read::<FUSED, 4>(self.background, i);
        }
    }
}

/// Places one sample at the center of the mass of each part. `places` holds the first bin; the
/// length of the bins, in whole and parts, before each sample is added to it.
#[inline(always)]
fn place_samples(weights: &[Lanes], mass: &Lanes, places: &mut [Lanes]) {
    let share = each(|i| mass[i] / places.len() as f32);
    let mut before = [0.0; LANES];
    for weight in weights {
        let inverse = each(|i| 1.0 / larger(weight[i], 1e-9));
        for (k, place) in places.iter_mut().enumerate() {
            for i in 0..LANES {
                let wanted = (k as f32 + 0.5) * share[i];
                let inside = (wanted - before[i]) * inverse[i];
                place[i] += smaller(larger(inside, 0.0), 1.0);
            }
        }
        for i in 0..LANES {
            before[i] += weight[i];
        }
    }
}
