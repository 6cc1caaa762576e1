#include "cluster/api/kind_schema.h"

#include <stdlib.h>
#include <string.h>

/* From the OpenAPI document of Kubernetes 1.37. In order of names. What a cluster's old volume plugins, certificates and webhooks
 * take is not looked into, nor is status. */
static const struct kind_schema types[] = {
    {"Affinity", "nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity"},
    {"AppArmorProfile", "localhostProfile type"},
    {"CSIVolumeSource", "driver fsType nodePublishSecretRef:LocalObjectReference readOnly volumeAttributes"},
    {"Capabilities", "add drop"},
    {"ClientIPConfig", "timeoutSeconds"},
    {"ConfigMap", "apiVersion binaryData data immutable kind metadata:ObjectMeta"},
    {"ConfigMapEnvSource", "name optional"},
    {"ConfigMapKeySelector", "key name optional"},
    {"ConfigMapProjection", "items:KeyToPath name optional"},
    {"ConfigMapVolumeSource", "defaultMode defaultUser items:KeyToPath name optional"},
    {"Container",
     "args command env:EnvVar envFrom:EnvFromSource image imagePullPolicy lifecycle:Lifecycle livenessProbe:Probe name "
     "ports:ContainerPort readinessProbe:Probe resizePolicy:ContainerResizePolicy resources:ResourceRequirements restartPolicy "
     "restartPolicyRules:ContainerRestartRule securityContext:SecurityContext startupProbe:Probe stdin stdinOnce "
     "terminationMessagePath terminationMessagePolicy tty volumeDevices:VolumeDevice volumeMounts:VolumeMount workingDir"},
    {"ContainerPort", "containerPort hostIP hostPort name protocol"},
    {"ContainerResizePolicy", "resourceName restartPolicy"},
    {"ContainerRestartRule", "action exitCodes:ContainerRestartRuleOnExitCodes"},
    {"ContainerRestartRuleOnExitCodes", "operator values"},
    {"CustomResourceColumnDefinition", "description format jsonPath name priority type"},
    {"CustomResourceDefinition", "apiVersion kind metadata:ObjectMeta spec:CustomResourceDefinitionSpec status"},
    {"CustomResourceDefinitionNames", "categories kind listKind plural shortNames singular"},
    {"CustomResourceDefinitionSpec",
     "conversion group names:CustomResourceDefinitionNames preserveUnknownFields scope versions:CustomResourceDefinitionVersion"},
    {"CustomResourceDefinitionVersion", "additionalPrinterColumns:CustomResourceColumnDefinition deprecated deprecationWarning "
                                        "name schema selectableFields:SelectableField served storage subresources"},
    {"Deployment", "apiVersion kind metadata:ObjectMeta spec:DeploymentSpec status"},
    {"DeploymentSpec", "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector:LabelSelector "
                       "strategy:DeploymentStrategy template:PodTemplateSpec"},
    {"DeploymentStrategy", "rollingUpdate:RollingUpdateDeployment type"},
    {"DownwardAPIProjection", "items:DownwardAPIVolumeFile"},
    {"DownwardAPIVolumeFile", "fieldRef:ObjectFieldSelector mode path resourceFieldRef:ResourceFieldSelector user"},
    {"DownwardAPIVolumeSource", "defaultMode defaultUser items:DownwardAPIVolumeFile"},
    {"EmptyDirVolumeSource", "medium mode sizeLimit"},
    {"Endpoint", "addresses conditions:EndpointConditions deprecatedTopology hints:EndpointHints hostname nodeName "
                 "targetRef:ObjectReference zone"},
    {"EndpointConditions", "ready serving terminating"},
    {"EndpointHints", "forNodes:ForNode forZones:ForZone"},
    {"EndpointPort", "appProtocol name port protocol"},
    {"EndpointSlice", "addressType apiVersion endpoints:Endpoint kind metadata:ObjectMeta ports:EndpointPort"},
    {"EnvFromSource", "configMapRef:ConfigMapEnvSource prefix secretRef:SecretEnvSource"},
    {"EnvVar", "name value valueFrom:EnvVarSource"},
    {"EnvVarSource", "configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector fileKeyRef:FileKeySelector "
                     "resourceFieldRef:ResourceFieldSelector secretKeyRef:SecretKeySelector"},
    {"EphemeralContainer",
     "args command env:EnvVar envFrom:EnvFromSource image imagePullPolicy lifecycle:Lifecycle livenessProbe:Probe name "
     "ports:ContainerPort readinessProbe:Probe resizePolicy:ContainerResizePolicy resources:ResourceRequirements restartPolicy "
     "restartPolicyRules:ContainerRestartRule securityContext:SecurityContext startupProbe:Probe stdin stdinOnce "
     "targetContainerName terminationMessagePath terminationMessagePolicy tty volumeDevices:VolumeDevice volumeMounts:VolumeMount "
     "workingDir"},
    {"EphemeralVolumeSource", "volumeClaimTemplate:PersistentVolumeClaimTemplate"},
    {"Event", "action apiVersion count eventTime firstTimestamp involvedObject:ObjectReference kind lastTimestamp message "
              "metadata:ObjectMeta reason related:ObjectReference reportingComponent reportingInstance series:EventSeries "
              "source:EventSource type"},
    {"EventSeries", "count lastObservedTime"},
    {"EventSource", "component host"},
    {"EvictionResponder", "name priority"},
    {"ExecAction", "command"},
    {"FileKeySelector", "key optional path volumeName"},
    {"ForNode", "name"},
    {"ForZone", "name"},
    {"GRPCAction", "mode port service"},
    {"HTTPGetAction", "host httpHeaders:HTTPHeader path port protocol scheme"},
    {"HTTPHeader", "name value"},
    {"HostAlias", "hostnames ip"},
    {"HostPathVolumeSource", "path type"},
    {"ImageVolumeSource", "pullPolicy reference"},
    {"KeyToPath", "key mode path user"},
    {"LabelSelector", "matchExpressions:LabelSelectorRequirement matchLabels"},
    {"LabelSelectorRequirement", "key operator values"},
    {"Lease", "apiVersion kind metadata:ObjectMeta spec:LeaseSpec"},
    {"LeaseSpec", "acquireTime holderIdentity leaseDurationSeconds leaseTransitions preferredHolder renewTime strategy"},
    {"Lifecycle", "postStart:LifecycleHandler preStop:LifecycleHandler stopSignal"},
    {"LifecycleHandler", "exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction tcpSocket:TCPSocketAction"},
    {"LocalObjectReference", "name"},
    {"NFSVolumeSource", "path readOnly server"},
    {"Namespace", "apiVersion kind metadata:ObjectMeta spec:NamespaceSpec status"},
    {"NamespaceSpec", "finalizers"},
    {"Node", "apiVersion kind metadata:ObjectMeta spec:NodeSpec status"},
    {"NodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution:PreferredSchedulingTerm "
                     "requiredDuringSchedulingIgnoredDuringExecution:NodeSelector"},
    {"NodeSelector", "nodeSelectorTerms:NodeSelectorTerm"},
    {"NodeSelectorRequirement", "key operator values"},
    {"NodeSelectorTerm", "matchExpressions:NodeSelectorRequirement matchFields:NodeSelectorRequirement"},
    {"NodeSpec", "configSource externalID podCIDR podCIDRs podPreemptionPolicy providerID taints:Taint unschedulable"},
    {"ObjectFieldSelector", "apiVersion fieldPath"},
    {"ObjectMeta", "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation "
                   "labels managedFields name namespace ownerReferences:OwnerReference resourceVersion selfLink uid"},
    {"ObjectReference", "apiVersion fieldPath kind name namespace resourceVersion uid"},
    {"OwnerReference", "apiVersion blockOwnerDeletion controller kind name uid"},
    {"PersistentVolumeClaimSpec",
     "accessModes dataSource:TypedLocalObjectReference dataSourceRef:TypedObjectReference resources:VolumeResourceRequirements "
     "selector:LabelSelector storageClassName volumeAttributesClassName volumeMode volumeName"},
    {"PersistentVolumeClaimTemplate", "metadata:ObjectMeta spec:PersistentVolumeClaimSpec"},
    {"PersistentVolumeClaimVolumeSource", "claimName readOnly"},
    {"Pod", "apiVersion kind metadata:ObjectMeta spec:PodSpec status"},
    {"PodAffinity", "preferredDuringSchedulingIgnoredDuringExecution:WeightedPodAffinityTerm "
                    "requiredDuringSchedulingIgnoredDuringExecution:PodAffinityTerm"},
    {"PodAffinityTerm",
     "labelSelector:LabelSelector matchLabelKeys mismatchLabelKeys namespaceSelector:LabelSelector namespaces topologyKey"},
    {"PodDNSConfig", "nameservers options:PodDNSConfigOption searches"},
    {"PodDNSConfigOption", "name value"},
    {"PodOS", "name"},
    {"PodReadinessGate", "conditionType"},
    {"PodResourceClaim", "name resourceClaimName resourceClaimTemplateName"},
    {"PodSchedulingGate", "name"},
    {"PodSchedulingGroup", "podGroupName"},
    {"PodSecurityContext", "appArmorProfile:AppArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser "
                           "seLinuxChangePolicy seLinuxOptions:SELinuxOptions seccompProfile:SeccompProfile supplementalGroups "
                           "supplementalGroupsPolicy sysctls:Sysctl windowsOptions"},
    {"PodSpec",
     "activeDeadlineSeconds affinity:Affinity automountServiceAccountToken containers:Container dnsConfig:PodDNSConfig dnsPolicy "
     "enableServiceLinks ephemeralContainers:EphemeralContainer evictionResponders:EvictionResponder hostAliases:HostAlias hostIPC "
     "hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets:LocalObjectReference initContainers:Container "
     "nodeName nodeSelector os:PodOS overhead preemptionPolicy priority priorityClassName readinessGates:PodReadinessGate "
     "resourceClaims:PodResourceClaim resources:ResourceRequirements restartPolicy runtimeClassName schedulerName "
     "schedulingGates:PodSchedulingGate schedulingGroup:PodSchedulingGroup securityContext:PodSecurityContext serviceAccount "
     "serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations:Toleration "
     "topologySpreadConstraints:TopologySpreadConstraint volumes:Volume"},
    {"PodTemplateSpec", "metadata:ObjectMeta spec:PodSpec"},
    {"PreferredSchedulingTerm", "preference:NodeSelectorTerm weight"},
    {"Probe", "exec:ExecAction failureThreshold grpc:GRPCAction httpGet:HTTPGetAction initialDelaySeconds periodSeconds "
              "successThreshold tcpSocket:TCPSocketAction terminationGracePeriodSeconds timeoutSeconds"},
    {"ProjectedVolumeSource", "defaultMode defaultUser sources:VolumeProjection"},
    {"ReplicaSet", "apiVersion kind metadata:ObjectMeta spec:ReplicaSetSpec status"},
    {"ReplicaSetSpec", "minReadySeconds replicas selector:LabelSelector template:PodTemplateSpec"},
    {"ResourceClaim", "name request"},
    {"ResourceFieldSelector", "containerName divisor resource"},
    {"ResourceRequirements", "claims:ResourceClaim limits requests"},
    {"RollingUpdateDeployment", "maxSurge maxUnavailable"},
    {"SELinuxOptions", "level role type user"},
    {"SeccompProfile", "localhostProfile type"},
    {"Secret", "apiVersion data immutable kind metadata:ObjectMeta stringData type"},
    {"SecretEnvSource", "name optional"},
    {"SecretKeySelector", "key name optional"},
    {"SecretProjection", "items:KeyToPath name optional"},
    {"SecretVolumeSource", "defaultMode defaultUser items:KeyToPath optional secretName"},
    {"SecurityContext", "allowPrivilegeEscalation appArmorProfile:AppArmorProfile capabilities:Capabilities privileged procMount "
                        "readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seLinuxOptions:SELinuxOptions "
                        "seccompProfile:SeccompProfile windowsOptions"},
    {"SelectableField", "jsonPath"},
    {"Service", "apiVersion kind metadata:ObjectMeta spec:ServiceSpec status"},
    {"ServiceAccount", "apiVersion automountServiceAccountToken imagePullSecrets:LocalObjectReference kind metadata:ObjectMeta "
                       "secrets:ObjectReference"},
    {"ServiceAccountTokenProjection", "audience expirationSeconds path user"},
    {"ServicePort", "appProtocol name nodePort port protocol targetPort"},
    {"ServiceSpec",
     "allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName externalTrafficPolicy healthCheckNodePort "
     "internalTrafficPolicy ipFamilies ipFamilyPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges ports:ServicePort "
     "publishNotReadyAddresses selector sessionAffinity sessionAffinityConfig:SessionAffinityConfig trafficDistribution type"},
    {"SessionAffinityConfig", "clientIP:ClientIPConfig"},
    {"SleepAction", "seconds"},
    {"Sysctl", "name value"},
    {"TCPSocketAction", "host port"},
    {"Taint", "effect key timeAdded value"},
    {"Toleration", "effect key operator tolerationSeconds value"},
    {"TopologySpreadConstraint", "labelSelector:LabelSelector matchLabelKeys maxSkew minDomains nodeAffinityPolicy "
                                 "nodeTaintsPolicy topologyKey whenUnsatisfiable"},
    {"TypedLocalObjectReference", "apiGroup kind name"},
    {"TypedObjectReference", "apiGroup kind name namespace"},
    {"Volume", "awsElasticBlockStore azureDisk azureFile cephfs cinder configMap:ConfigMapVolumeSource csi:CSIVolumeSource "
               "downwardAPI:DownwardAPIVolumeSource emptyDir:EmptyDirVolumeSource ephemeral:EphemeralVolumeSource fc flexVolume "
               "flocker gcePersistentDisk gitRepo glusterfs hostPath:HostPathVolumeSource image:ImageVolumeSource iscsi name "
               "nfs:NFSVolumeSource persistentVolumeClaim:PersistentVolumeClaimVolumeSource photonPersistentDisk portworxVolume "
               "projected:ProjectedVolumeSource quobyte rbd scaleIO secret:SecretVolumeSource storageos vsphereVolume"},
    {"VolumeDevice", "devicePath name"},
    {"VolumeMount", "bindMountOptions mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr"},
    {"VolumeProjection", "clusterTrustBundle configMap:ConfigMapProjection downwardAPI:DownwardAPIProjection podCertificate "
                         "secret:SecretProjection serviceAccountToken:ServiceAccountTokenProjection"},
    {"VolumeResourceRequirements", "limits requests"},
    {"WeightedPodAffinityTerm", "podAffinityTerm:PodAffinityTerm weight"},
};

static int compare_names(const void *name, const void *type) {
    return strcmp(name, ((const struct kind_schema *)type)->name);
}

const struct kind_schema *kind_schema_find(const char *name) {
    return bsearch(name, types, ARRAY_LEN(types), sizeof(types[0]), compare_names);
}
