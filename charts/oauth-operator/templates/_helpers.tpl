{{- define "oauth-operator.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" (.Release.Name | trunc 37 | trimSuffix "-") .Chart.Name }}
{{- end }}
{{- end }}

{{- define "oauth-operator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "oauth-operator.name" .) }}
{{- end }}

{{- define "oauth-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "oauth-operator.labels" -}}
{{ include "oauth-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "oauth-operator.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* The seconds of a duration such as 1h30m. */ -}}
{{- define "oauth-operator.seconds" -}}
{{- $seconds := 0 }}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 }}
{{- $factor := get (dict "h" 3600 "m" 60 "s" 1 "ms" 0) (regexFind "[a-z]+" .) }}
{{- $seconds = add $seconds (mul (regexFind "[0-9]+" . | atoi) $factor) }}
{{- end }}
{{- $seconds }}
{{- end }}

{{- /* Restricted pod security, and nothing to write to. */ -}}
{{- define "oauth-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "oauth-operator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* What operator and uninstall both have to know. The namespace's name is the pod's, whoever renders this. */ -}}
{{- define "oauth-operator.env" -}}
- name: OAUTH_OPERATOR_NAMESPACE
  valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
- { name: OAUTH_OPERATOR_NAMESPACES, value: {{ join "," .Values.namespaces | quote }} }
{{- end }}
