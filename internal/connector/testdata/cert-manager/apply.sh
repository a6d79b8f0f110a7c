#!/bin/sh
# Does the steps of README.md in their order, and stops where a check fails. It can be run again.
set -eu
cd "$(dirname "$0")"

echo "==> 1. cert-manager, if it is not there yet"
kubectl get deployment cert-manager -n cert-manager || kubectl apply -f https://github.com/cert-manager/cert-manager/releases/download/v1.21.2/cert-manager.yaml
kubectl wait --for=condition=Available deployment --all -n cert-manager --timeout=5m


echo "==> 2. Namespace, credential, root and issuer"
kubectl apply -f 00-namespaces.yaml -f 10-eab-secret.yaml -f 20-root-secret.yaml -f 30-issuer.yaml
kubectl wait --for=condition=Ready issuer/certloom -n istio-system --timeout=2m


echo "==> 3. istio-csr, before Istio"
helm repo add jetstack https://charts.jetstack.io --force-update
helm upgrade --install cert-manager-istio-csr jetstack/cert-manager-istio-csr -n cert-manager -f istio-csr-values.yaml
kubectl rollout status deployment/cert-manager-istio-csr -n cert-manager --timeout=5m
kubectl wait --for=condition=Ready certificate --all -n istio-system --timeout=2m


echo "==> 4. Istio"
helm repo add istio https://istio-release.storage.googleapis.com/charts --force-update
helm upgrade --install istio-base istio/base -n istio-system --set defaultRevision=default
helm upgrade --install istiod istio/istiod -n istio-system -f istiod-values.yaml
kubectl rollout status deployment/istiod -n istio-system --timeout=5m


echo "==> 5. Start workloads"
kubectl get configmap istio-ca-root-cert -n istio-system
