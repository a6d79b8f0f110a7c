package cluster

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/certloom/certloom/internal/fault"
)

// ReadKubeconfig reads a kubeconfig that comes from elsewhere. It must hold everything itself: one that would run a program
// or read a file of the agent's is refused, as Istio does (pkg/kube/multicluster, sanitizeKubeConfig), and so is one whose
// API server would not have to prove who it is, since that API server decides who gets which certificate. The error is a
// *fault.Error whose sentence has nothing secret in it.
func ReadKubeconfig(raw []byte) (*rest.Config, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, badKubeconfig("it is empty")
	}
	file, err := clientcmd.Load(raw)
	if err != nil {
		return nil, badKubeconfig("it cannot be read") // the reason may quote what is secret
	}
	for _, name := range sorted(file.AuthInfos) {
		if err := checkUser(name, file.AuthInfos[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range sorted(file.Clusters) {
		if err := checkServer(name, file.Clusters[name]); err != nil {
			return nil, err
		}
	}
	chosen := file.Contexts[file.CurrentContext]
	if chosen == nil {
		return nil, badKubeconfig("its current-context %.100q is none of its contexts", file.CurrentContext)
	}
	server, user := file.Clusters[chosen.Cluster], file.AuthInfos[chosen.AuthInfo]
	if server == nil || user == nil {
		return nil, badKubeconfig("its context %.100q names cluster %.100q and user %.100q, which are not both there",
			file.CurrentContext, chosen.Cluster, chosen.AuthInfo)
	}
	return clientOf(server, user)
}

// clientOf makes the settings of a client of what has been checked, and of nothing else in the file.
func clientOf(server *api.Cluster, user *api.AuthInfo) (*rest.Config, error) {
	config := &rest.Config{
		Host: server.Server, BearerToken: user.Token, DisableCompression: server.DisableCompression,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: server.TLSServerName, CAData: server.CertificateAuthorityData,
			CertData: user.ClientCertificateData, KeyData: user.ClientKeyData,
		},
	}
	if server.ProxyURL != "" {
		proxy, err := url.Parse(server.ProxyURL)
		if err != nil || !slices.Contains([]string{"http", "https", "socks5"}, proxy.Scheme) || proxy.Host == "" {
			return nil, badKubeconfig("its proxy-url is not the URL of an HTTP or SOCKS proxy")
		}
		config.Proxy = http.ProxyURL(proxy)
	}
	if len(user.ClientCertificateData) > 0 {
		if _, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData); err != nil {
			return nil, badKubeconfig("its client-certificate-data and client-key-data are not a certificate and its key")
		}
	} else if user.Token == "" {
		return nil, badKubeconfig("its user has neither a token nor client-certificate-data")
	}
	return config, nil
}

// checkUser refuses credentials that are not in the file itself.
func checkUser(name string, user *api.AuthInfo) error {
	refused := ""
	switch {
	case user.Exec != nil:
		refused = "exec, which runs a program"
	case user.AuthProvider != nil:
		refused = "auth-provider, which may run a program or read files"
	case user.TokenFile != "":
		refused = "tokenFile, which reads a file"
	case user.ClientCertificate != "":
		refused = "client-certificate, which reads a file; client-certificate-data is accepted"
	case user.ClientKey != "":
		refused = "client-key, which reads a file; client-key-data is accepted"
	case user.Username != "" || user.Password != "":
		refused = "username and password"
	case user.Impersonate != "" || user.ImpersonateUID != "" || len(user.ImpersonateGroups)+len(user.ImpersonateUserExtra) > 0:
		refused = "as, which impersonates another user"
	default:
		return nil
	}
	return badKubeconfig("user %.100q has %s", name, refused)
}

// checkServer refuses API servers that would not have to prove who they are.
func checkServer(name string, server *api.Cluster) error {
	address, err := url.Parse(server.Server)
	switch {
	case err != nil || address.Scheme != "https" || address.Host == "" || address.User != nil:
		return badKubeconfig("cluster %.100q has no server such as https://HOST:PORT", name)
	case server.InsecureSkipTLSVerify:
		return badKubeconfig("cluster %.100q has insecure-skip-tls-verify, with which anybody could answer for its API server", name)
	case server.CertificateAuthority != "":
		return badKubeconfig("cluster %.100q has certificate-authority, which reads a file; certificate-authority-data is accepted", name)
	case len(server.CertificateAuthorityData) > 0 && !strings.Contains(string(server.CertificateAuthorityData), "-----BEGIN CERTIFICATE-----"):
		return badKubeconfig("cluster %.100q has certificate-authority-data without a certificate in PEM", name)
	}
	return nil
}

func badKubeconfig(format string, args ...any) error {
	return fault.New(fault.Malformed, "the kubeconfig is not accepted: "+format, args...)
}
