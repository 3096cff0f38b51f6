{{- define "operator.name" -}}
{{- $name := .Release.Name }}
{{- if not (contains "tradsys-operator" $name) }}{{ $name = printf "%s-tradsys-operator" $name }}{{ end }}
{{- $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "operator.account" -}}
{{- default (include "operator.name" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: tradsys-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
