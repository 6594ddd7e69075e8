{{- /* A role and its binding to an account of ours: of, account, name, rules; a namespace, or none for the whole cluster;
       annotations of a hook, or none. */ -}}
{{- define "oauth-operator.grant" -}}
{{- $kind := .namespace | empty | ternary "ClusterRole" "Role" }}
{{- $metadata := dict "name" .name "labels" (include "oauth-operator.labels" .of | fromYaml) }}
{{- with .namespace }}
{{- $_ := set $metadata "namespace" . }}
{{- end }}
{{- with .annotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata: {{- toYaml $metadata | nindent 2 }}
rules:
{{ trim .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata: {{- toYaml $metadata | nindent 2 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ .name }} }
subjects: [{ kind: ServiceAccount, name: {{ .account }}, namespace: {{ .of.Release.Namespace }} }]
{{ end }}
