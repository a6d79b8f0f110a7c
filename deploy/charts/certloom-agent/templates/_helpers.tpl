{{- define "agent.name" -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- end }}

{{- define "agent.selector" -}}
app: certloom-agent
app.kubernetes.io/name: certloom-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "agent.labels" -}}
{{ include "agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "agent.image" -}}
{{- $i := .Values.image -}}
{{- $path := $i.repository -}}
{{- if and (not $path) $i.name -}}{{- $path = list .Values.imageNamespace $i.name | compact | join "/" -}}{{- end -}}
{{- if not $path -}}{{- fail "image.repository is needed: where is an image with certloom-agent in it?" -}}{{- end -}}
{{- if contains "istio-csr" $path -}}{{- fail (printf "image %s is istio-csr's: leave it out of the values, and set image.repository to one with certloom-agent in it" $path) -}}{{- end -}}
{{- $path = list (coalesce $i.registry .Values.imageRegistry) $path | compact | join "/" -}}
{{- if $i.digest -}}{{ $path }}@{{ $i.digest }}{{- else -}}{{ $path }}:{{ $i.tag | default .Chart.AppVersion }}{{- end -}}
{{- end }}

{{- /* Key algorithm and size: istio-csr's values name sizes of RSA keys without saying RSA. */ -}}
{{- define "agent.algorithm" -}}
{{- if .algorithm -}}{{ .algorithm }}{{- else if ge (int .size) 2048 -}}RSA{{- else -}}ECDSA{{- end -}}
{{- end }}

{{- /* A list, or one string. */ -}}
{{- define "agent.list" -}}{{- if kindIs "slice" . -}}{{ join "," . }}{{- else -}}{{ . }}{{- end -}}{{- end }}

{{- define "agent.istiod" -}}{{- if eq (toString .Values.app.tls.istiodCertificateEnable) "false" -}}{{- else -}}true{{- end -}}{{- end }}

{{- /* The ConfigMap that can name another issuer, "" for none. */ -}}
{{- define "agent.runtimeMap" -}}
{{- if eq .Values.issuer "cert-manager" -}}{{ coalesce .Values.app.runtimeConfiguration.name .Values.app.runtimeIssuanceConfigMap }}{{- end -}}
{{- end }}

{{- define "agent.issuerArgs" -}}
- --issuer={{ .Values.issuer }}
{{- if eq .Values.issuer "certloom" }}
{{- with .Values.certloom.server }}
- --server={{ . }}
{{- end }}
{{- with .Values.certloom.serverCAFile }}
- --server-ca-file={{ . }}
{{- end }}
- --credential-file={{ .Values.certloom.credentialFile }}
{{- else if eq .Values.issuer "cert-manager" }}
{{- $c := .Values.app.certmanager }}
- --certificate-namespace={{ $c.namespace }}
- --issuer-enabled={{ $c.issuer.enabled }}
- --issuer-name={{ $c.issuer.name }}
- --issuer-kind={{ $c.issuer.kind }}
- --issuer-group={{ $c.issuer.group }}
{{- with include "agent.runtimeMap" . }}
- --runtime-issuance-config-map-name={{ . }}
- --runtime-issuance-config-map-namespace={{ $.Release.Namespace }}
{{- end }}
{{- range $c.additionalAnnotations }}
- {{ printf "--certificate-request-additional-annotations=%s=%s" .name .value | quote }}
{{- end }}
{{- if $c.preserveCertificateRequests }}
- --preserve-certificate-requests
{{- end }}
{{- with .Values.app.tls.rootCAFile }}
- --root-ca-file={{ . }}
{{- end }}
{{- else }}
{{- $a := .Values.acme }}
{{- range $flag, $value := dict "acme-directory" $a.directory "acme-ca-file" $a.caFile "credential-file" $a.credentialFile "acme-eab-key-id" $a.eabKeyID "acme-eab-key-file" $a.eabKeyFile "acme-email" $a.email "acme-profile" $a.profile "acme-account-secret" $a.accountSecret "root-ca-file" (required "app.tls.rootCAFile is needed with issuer acme: ACME does not tell the roots" .Values.app.tls.rootCAFile) }}
{{- if $value }}
- --{{ $flag }}={{ $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agent.args" -}}
{{- $app := .Values.app -}}
{{- $service := printf "%s.%s.svc" (include "agent.name" .) .Release.Namespace -}}
{{ include "agent.issuerArgs" . }}
- --log-level={{ $app.logLevel }}
- --log-format={{ $app.logFormat }}
- --metrics-port={{ $app.metrics.port }}
- --readiness-probe-port={{ $app.readinessProbe.port }}
- --readiness-probe-path={{ $app.readinessProbe.path }}
- --serving-address={{ $app.server.serving.address }}:{{ $app.server.serving.port }}
- --serving-certificate-dns-names={{ join "," (concat $app.tls.certificateDNSNames (list $service (printf "%s.cluster.local" $service)) | uniq) }}
- --serving-certificate-duration={{ $app.tls.certificateDuration }}
- --serving-signature-algorithm={{ include "agent.algorithm" (dict "algorithm" $app.server.serving.signatureAlgorithm "size" $app.server.serving.certificateKeySize) }}
- --serving-certificate-key-size={{ int $app.server.serving.certificateKeySize }}
- --trust-domain={{ $app.tls.trustDomain }}
- --cluster-id={{ $app.server.clusterID }}
- --max-client-certificate-duration={{ $app.server.maxCertificateDuration }}
- --leader-election-namespace={{ $app.controller.leaderElectionNamespace }}
- --root-configmap-name={{ $app.controller.rootConfigMapName }}
- --crl-configmap-name={{ $app.controller.crlConfigMapName }}
- --cluster-trust-bundle={{ $app.controller.clusterTrustBundle }}
- --cluster-trust-bundle-name={{ $app.controller.clusterTrustBundleName }}
- --max-concurrent-reconciles={{ $app.controller.maxConcurrentReconciles }}
{{- range $flag, $value := dict "serving-tls-min-version" $app.tls.servingTLSMinVersion "serving-tls-cipher-suites" $app.tls.servingTLSCipherSuites "serving-tls-curve-preferences" $app.tls.servingTLSCurvePreferences "cluster-id-aliases" $app.server.clusterIDAliases "ca-trusted-node-accounts" $app.server.caTrustedNodeAccounts "remote-clusters-namespace" $app.server.remoteClustersNamespace "configmap-namespace-selector" $app.controller.configmapNamespaceSelector }}
{{- if $value }}
- {{ printf "--%s=%s" $flag (include "agent.list" $value) | quote }}
{{- end }}
{{- end }}
{{- if $app.server.tokenReview }}
- --token-review
{{- end }}
{{- if not (kindIs "invalid" $app.server.authenticators.enableClientCert) }}
- --enable-client-cert-authenticator={{ $app.server.authenticators.enableClientCert }}
{{- end }}
{{- if $app.controller.disableKubernetesClientRateLimiter }}
- --disable-kubernetes-client-rate-limiter
{{- end }}
{{- if include "agent.istiod" . }}
- --istiod-cert-namespace={{ $app.istio.namespace }}
- --istiod-cert-duration={{ $app.tls.istiodCertificateDuration }}
{{- with $app.tls.istiodCertificateRenewBefore }}
- --istiod-cert-renew-before={{ . }}
{{- end }}
- --istiod-cert-key-algorithm={{ include "agent.algorithm" (dict "algorithm" $app.tls.istiodPrivateKeyAlgorithm "size" $app.tls.istiodPrivateKeySize) }}
- --istiod-cert-key-size={{ int $app.tls.istiodPrivateKeySize }}
- --istiod-cert-istio-revisions={{ join "," $app.istio.revisions }}
{{- with $app.tls.istiodAdditionalDNSNames }}
- --istiod-cert-additional-dns-names={{ join "," . }}
{{- end }}
{{- if $app.istio.restart }}
- --restart-istiod
{{- end }}
{{- else }}
- --istiod-cert-enabled=false
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
