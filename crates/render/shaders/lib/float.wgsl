// Texture formats of the folded field in 32-bit floats: require FLOAT32_FILTERABLE. Software
// adapters read these faster than 16-bit floats. Rust twin: `Precision::Float`.
alias PictureOut = texture_storage_2d_array<rgba32float, write>;
alias VolumeOut = texture_storage_3d<r32float, write>;
