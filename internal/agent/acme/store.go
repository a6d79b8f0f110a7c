package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Keys of the Secret. The first is that of cert-manager's Secrets (spec.acme.privateKeySecretRef), so that one of those can
// be taken over.
const (
	keyEntry       = "tls.key"
	accountEntry   = "account-url"
	directoryEntry = "directory-url"
	bindingEntry   = "eab-key-id"

	managedLabel = "app.kubernetes.io/managed-by"
	managedBy    = "certloom-agent"
)

// record is what the Secret says of the account.
type record struct {
	key       crypto.Signer
	url       string // of the account; "" before it is registered, or when that is not known
	directory string // of the CA that has the account
	bindingID string // key ID of the EAB credential that it was registered with; "" for none, or when that is not known

	secret *corev1.Secret // as it was read; nil when it is not stored yet
}

// store keeps the record in a Secret. Whoever creates the Secret first decides about the key; a change is made only to the
// Secret that was read. So any number of replicas agree on one account.
type store struct {
	secrets Secrets
	name    string
	random  io.Reader
}

// load returns nil when there is no Secret.
func (s *store) load(ctx context.Context) (*record, error) {
	secret, err := s.secrets.Get(ctx, s.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // none is not an error
	case err != nil:
		return nil, fmt.Errorf("read the ACME account from Secret %s: %w", s.name, err)
	}
	return s.read(secret)
}

func (s *store) read(secret *corev1.Secret) (*record, error) {
	key, err := parseKey(secret.Data[keyEntry])
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %q is no private key that an ACME account can have; delete the Secret, or name another with --acme-account-secret",
			secret.Namespace, secret.Name, keyEntry) // without the cause, which knows what is in it
	}
	return &record{
		key: key, url: string(secret.Data[accountEntry]), directory: string(secret.Data[directoryEntry]),
		bindingID: string(secret.Data[bindingEntry]), secret: secret,
	}, nil
}

// create makes the Secret with a new key, or returns that of another replica that was faster.
func (s *store) create(ctx context.Context) (*record, error) {
	made, err := s.newRecord()
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Labels: map[string]string{managedLabel: managedBy}}, Type: corev1.SecretTypeOpaque,
	}
	if secret.Data, err = made.data(nil); err != nil {
		return nil, err
	}
	secret, err = s.secrets.Create(ctx, secret, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		if secret, err = s.secrets.Get(ctx, s.name, metav1.GetOptions{}); err != nil {
			return nil, fmt.Errorf("read the ACME account from Secret %s: %w", s.name, err)
		}
	case err != nil:
		return nil, fmt.Errorf("write the ACME account key to Secret %s: %w", s.name, err)
	}
	return s.read(secret)
}

// save writes a record over the one that it came from. The error is that of a conflict (apierrors.IsConflict) when another
// replica has written meanwhile.
func (s *store) save(ctx context.Context, r *record) error {
	changed := r.secret.DeepCopy()
	var err error
	if changed.Data, err = r.data(r.secret.Data); err != nil {
		return err
	}
	if r.secret, err = s.secrets.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		r.secret = changed
		return fmt.Errorf("write the ACME account to Secret %s: %w", s.name, err)
	}
	return nil
}

// newRecord makes a key: ECDSA on P-256, which every ACME server must take (RFC 8555 section 6.2).
func (s *store) newRecord() (*record, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), s.random)
	if err != nil {
		return nil, fmt.Errorf("make an ACME account key: %w", err)
	}
	return &record{key: key}, nil
}

// data returns the Secret's data with the record in it; what else is there stays.
func (r *record) data(before map[string][]byte) (map[string][]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return nil, fmt.Errorf("encode the ACME account key: %w", err)
	}
	data := maps.Clone(before)
	if data == nil {
		data = map[string][]byte{}
	}
	if old, err := parseKey(data[keyEntry]); err != nil || !same(old, r.key) {
		data[keyEntry] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	data[accountEntry], data[directoryEntry], data[bindingEntry] = []byte(r.url), []byte(r.directory), []byte(r.bindingID)
	return data, nil
}

// same reports whether two signers have the same key.
func same(a, b crypto.Signer) bool {
	public, ok := a.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && public.Equal(b.Public())
}

// parseKey reads a private key in PEM: PKCS #8, or what cert-manager and openssl write.
func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("no PEM")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read a private key: %w", err)
	}
	return key, nil
}
