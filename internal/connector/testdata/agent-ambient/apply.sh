#!/bin/sh
# Does the steps of README.md in their order, and stops where a check fails. It can be run again.
set -eu
cd "$(dirname "$0")"

echo "==> 1. Namespace and credential"
kubectl apply -f 00-namespaces.yaml -f 10-agent-secret.yaml
kubectl get secret certloom-agent -n istio-system


echo "==> 2. certloom-agent"
helm upgrade --install certloom-agent ./certloom-agent.tgz -n istio-system -f certloom-agent-values.yaml
kubectl rollout status deployment/certloom-agent -n istio-system --timeout=5m
kubectl wait --for=create secret/istiod-tls -n istio-system --timeout=2m


echo "==> 3. Istio"
helm repo add istio https://istio-release.storage.googleapis.com/charts --force-update
helm upgrade --install istio-base istio/base -n istio-system --set defaultRevision=default
helm upgrade --install istiod istio/istiod -n istio-system -f istiod-values.yaml
helm upgrade --install istio-cni istio/cni -n istio-system -f cni-values.yaml
helm upgrade --install ztunnel istio/ztunnel -n istio-system -f ztunnel-values.yaml
kubectl rollout status deployment/istiod -n istio-system --timeout=5m
kubectl rollout status daemonset/ztunnel -n istio-system --timeout=5m


echo "==> 4. Start workloads"
kubectl get configmap istio-ca-root-cert -n istio-system
