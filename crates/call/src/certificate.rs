//! The DTLS certificate of one call.

use rtc::crypto::SignatureScheme;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::shared::error::Error;
use webrtc::peer_connection::RTCCertificate;

use crate::event::LinkError;

/// Makes a self-signed certificate with a fresh key on the curve P-256. It is made for one call and
/// says nothing about this machine or its owner.
pub(crate) fn generate_certificate() -> Result<RTCCertificate, LinkError> {
    let provider = rtc::crypto::default_provider().map_err(refusal)?;
    let params = CertificateParams::new(Vec::new()).map_err(refusal)?;
    let scheme = SignatureScheme::EcdsaP256Sha256;
    Ok(RTCCertificate::generate(provider.crypto(), scheme, params)?)
}

fn refusal(error: impl std::fmt::Display) -> Error {
    Error::Crypto(error.to_string())
}
