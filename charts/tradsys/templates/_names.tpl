{{- define "venue.name" -}}
{{- default .Release.Name .Values.name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "venue.labels" -}}
app.kubernetes.io/name: tradsys
app.kubernetes.io/instance: {{ include "venue.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
