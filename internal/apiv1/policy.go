package apiv1

// PolicyQuestion asks what would become of a request under a profile, or under a draft of one. Names come with a CSR or
// by themselves.
type PolicyQuestion struct {
	Profile    string         `json:"profile,omitempty" example:"istio" doc:"Name or identifier of the profile."`
	Draft      *CreateProfile `json:"draft,omitempty" doc:"A profile as it would be created; with profile, what it says is over that one's."`
	Credential string         `json:"credential,omitempty" doc:"KID of the EAB credential; absent: one without a limit of its own is assumed where one is needed."`
	CSR        string         `json:"csr,omitempty" doc:"PKCS #10 request, PEM. Absent: the names below, with a key that is made up."`
	SPIFFEID   string         `json:"spiffeId,omitempty" example:"spiffe://cluster.local/ns/shop/sa/web"`
	DNS        []string       `json:"dns,omitempty" nullable:"false"`
	IPs        []string       `json:"ips,omitempty" nullable:"false"`
	CommonName string         `json:"commonName,omitempty"`
	Key        string         `json:"keyAlgorithm,omitempty" doc:"Absent: the first that the profile takes."`
	Validity   string         `json:"validity,omitempty" doc:"Lifetime that is asked for, such as 12h; absent: the profile's."`
}

// PolicyAnswer says whether a certificate would be issued, and why.
type PolicyAnswer struct {
	Issued  bool          `json:"issued" doc:"It would be."`
	Checks  []PolicyCheck `json:"checks" nullable:"false" doc:"What was asked, in order."`
	Granted string        `json:"grantedLifetime,omitempty"`
	// Certificate is an example: nobody has signed it.
	Certificate *CertificateDetails `json:"certificate,omitempty" doc:"The certificate as it would be, with an example of a key; absent when none would be issued."`
	Chain       []string            `json:"chain,omitempty" nullable:"false" doc:"Subjects of the CAs above it, nearest first."`
}

// PolicyCheck is one question with its answer.
type PolicyCheck struct {
	Rule     string `json:"rule" doc:"profile, issuer, client, reuse, denied, credential, key, ca, dns, ip, names, subject, spiffe or lifetime."`
	Subject  string `json:"subject,omitempty" doc:"What was judged, such as a name."`
	Passed   bool   `json:"passed"`
	Sentence string `json:"sentence" doc:"Why."`
	Hint     string `json:"hint,omitempty" doc:"What an operator can do next."`
}
