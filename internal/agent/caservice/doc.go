// Package caservice is the certificate service that Istio's workloads call: istio.v1.auth.IstioCertificateService. It
// owns who may have which certificate: a caller gets one for its own identity, and a trusted node proxy one for the
// identities of Pods on its node.
//
// It must never tell a caller why it was refused, beyond the sentence that Istio's own CA uses: the reason goes to the log
// and to an Event on the Pod. A status that Istio retries is used only where a retry can help. It trusts what the token
// verifier says of a token, the trust bundle, and the lists in its Config.
package caservice
