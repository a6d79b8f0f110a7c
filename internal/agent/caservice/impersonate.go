package caservice

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// beneficiary finds out for whom the certificate is: the caller, or a workload on its node.
func (a *attempt) beneficiary(ctx context.Context) (issuer.Caller, error) {
	wanted := impersonated(a.request.GetMetadata())
	if wanted != "" {
		return a.impersonate(ctx, wanted)
	}
	identity, err := pki.ParseSPIFFEID(a.caller.identities[0])
	if err != nil {
		return issuer.Caller{}, fault.Wrap(err, fault.Unauthenticated, "the caller has no identity")
	}
	a.identity = identity
	subject := a.caller.subject
	from := issuer.Caller{
		Namespace: identity.Namespace, ServiceAccount: identity.ServiceAccount,
		Pod: subject.Pod, PodUID: subject.PodUID, Node: subject.Node,
		Cluster: a.caller.where(), Certificate: a.caller.certificate,
	}
	if from.Node == "" && from.Pod != "" {
		// Only for the inventory: a certificate without its node is better than none.
		if pod, err := a.caller.home.Pod(ctx, subject.Namespace, subject.Pod, subject.PodUID); err == nil {
			from.Node = pod.Node
		}
	}
	return from, nil
}

// impersonated returns the identity that the metadata asks for; ztunnel sets it, sidecars send other fields.
func impersonated(metadata *structpb.Struct) string {
	return metadata.GetFields()["ImpersonatedIdentity"].GetStringValue()
}

// impersonate checks that the caller is a trusted node proxy on whose node a Pod with the wanted identity runs.
func (a *attempt) impersonate(ctx context.Context, wanted string) (issuer.Caller, error) {
	s, proxy := a.service, a.caller.subject
	if a.caller.certificate != nil || a.caller.home == nil {
		return issuer.Caller{}, denied("the caller is known by a client certificate, which does not tell its node; asking for %.300q takes a token", wanted)
	}
	if !slices.Contains(s.config.NodeAccounts, NodeAccount{proxy.Namespace, proxy.ServiceAccount}) {
		return issuer.Caller{}, denied("%s may not have certificates of other workloads, as of %.300q; --ca-trusted-node-accounts lists who may",
			a.caller.identities[0], wanted)
	}
	identity, err := pki.ParseSPIFFEID(wanted)
	if err != nil {
		return issuer.Caller{}, fault.Wrap(err, fault.Unauthenticated, "the impersonated identity is not a workload's")
	}
	if identity.TrustDomain != s.config.TrustDomain {
		return issuer.Caller{}, denied("the impersonated identity %.300q is not of trust domain %q", wanted, s.config.TrustDomain)
	}
	node, err := a.nodeOfCaller(ctx)
	if err != nil {
		return issuer.Caller{}, err
	}
	pods, err := a.caller.home.RunsOn(ctx, node, identity.Namespace, identity.ServiceAccount)
	if err != nil {
		return issuer.Caller{}, err
	}
	if len(pods) == 0 {
		return issuer.Caller{}, denied("no Pod of %s/%s runs on the caller's node %q", identity.Namespace, identity.ServiceAccount, node)
	}
	a.identity = identity
	from := issuer.Caller{
		Namespace: identity.Namespace, ServiceAccount: identity.ServiceAccount, Node: node, Cluster: a.caller.where(),
		ImpersonatedBy: proxy.Namespace + "/" + proxy.ServiceAccount + "/" + proxy.Pod,
	}
	if len(pods) == 1 { // which of several it is for, the proxy does not say
		from.Pod, from.PodUID = pods[0].Name, pods[0].UID
	}
	return from, nil
}

// nodeOfCaller returns the node of the Pod to which the caller's token is bound.
func (a *attempt) nodeOfCaller(ctx context.Context) (string, error) {
	proxy := a.caller.subject
	if proxy.Pod == "" || proxy.PodUID == "" {
		return "", denied("the token of %s is not bound to a Pod, so its node is not known", a.caller.identities[0])
	}
	pod, err := a.caller.home.Pod(ctx, proxy.Namespace, proxy.Pod, proxy.PodUID)
	switch {
	case fault.Is(err, fault.NotFound):
		return "", fault.Wrap(err, fault.Unauthenticated, "the caller's Pod does not exist")
	case err != nil:
		return "", err
	case pod.UID != proxy.PodUID:
		return "", denied("the caller's Pod %s/%s has UID %s, its token was made for %.80q", proxy.Namespace, proxy.Pod, pod.UID, proxy.PodUID)
	case pod.ServiceAccount != proxy.ServiceAccount:
		return "", denied("the caller's Pod %s/%s runs as %q, its token is of %q", proxy.Namespace, proxy.Pod, pod.ServiceAccount, proxy.ServiceAccount)
	case pod.Finished:
		return "", denied("the caller's Pod %s/%s has finished", proxy.Namespace, proxy.Pod)
	case pod.Node == "":
		return "", fault.New(fault.Unavailable, "the caller's Pod %s/%s is not on a node yet", proxy.Namespace, proxy.Pod)
	}
	return pod.Node, nil
}
